//! Sessions with an MCP server of their own.

use super::Source;
use super::link::Link;
use super::peer::{Context, refused};
use super::places::{Account, NoPlace};
use super::session::{self, Opening};
use crate::hub::Hub;
use crate::jsonrpc::{Code, ErrorData, Executed, error_line};
use crate::transport;

/// Serves a session with an MCP server of its own.
pub(super) async fn serve(link: Box<Link>, opening: Opening, context: &Context) -> &'static str {
    let Source::Isolated {
        command,
        limits,
        places,
    } = &context.source
    else {
        return "not isolated";
    };
    let account = Account::of(link.standing.identity(), link.address);
    let place = match places.take(&account) {
        Ok(place) => place,
        Err(why) => return no_child(link, why).await,
    };
    let spot = place.spot();
    let (hub, driver) = Hub::isolated(command.clone(), *limits);
    let session = hub.attach(link.standing.profile(), &link.of_user());
    let left = tokio::sync::Notify::new();
    let living = async {
        let end = session::live(link, opening, &session, context, Some(spot)).await;
        left.notify_one();
        end
    };
    let leaving = async {
        tokio::select! {
            () = left.notified() => return,
            () = context.stopping() => {}
        }
        tokio::select! {
            () = left.notified() => {}
            () = hub.idle(context.settings.drain_timeout) => {}
        }
    };
    let running = async {
        let outcome = driver.run(leaving).await;
        // The session may go on for a while, to tell its client what was said last.
        drop(place);
        outcome
    };
    let (end, outcome) = tokio::join!(living, running);
    if let Err(err) = outcome {
        tracing::error!(%err, "the MCP server of this peer is lost");
    }
    end
}

/// Refuses a session that would need one MCP server too many.
async fn no_child(mut link: Box<Link>, why: NoPlace) -> &'static str {
    let (reason, text, data) = match why {
        NoPlace::Full => (
            "too many MCP servers",
            "Too many MCP servers",
            ErrorData::new("too-many-children", Executed::No),
        ),
        NoPlace::TooManyOfUser => (
            "too many MCP servers of this user",
            "Too many MCP servers of this user (--max-per-user)",
            ErrorData::new("too-many-of-user", Executed::No),
        ),
    };
    tracing::warn!("refused: {reason}");
    refused(&mut link.trail, &reason);
    let line = error_line(None, Code::InternalError, text, Some(&data));
    let Link { reader, writer, .. } = *link;
    transport::close(reader, writer, &[line.into()]).await;
    reason
}
