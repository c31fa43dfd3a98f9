//! `client http`: the URL, the proxy and the headers.

use super::Failure;
use super::client_shared::{connector, reconnect, refuse_certificates, tokens};
use crate::cli::ClientArgs;
use crate::client::http::{Place, Settings, choose};
use crate::utils::secret::Secret;
use crate::utils::text;
use hyper::header::{HeaderName, HeaderValue};

/// Headers that are ours to set.
const OURS: [&str; 17] = [
    "accept",
    "accept-encoding",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "expect",
    "host",
    "keep-alive",
    "last-event-id",
    "mcp-method",
    "mcp-name",
    "mcp-protocol-version",
    "mcp-session-id",
    "te",
    "transfer-encoding",
    "upgrade",
];

pub(super) fn settings(args: &ClientArgs) -> Result<Settings, Failure> {
    let url = args
        .url
        .as_deref()
        .ok_or_else(|| Failure::usage("'client http' needs --url https://host/path"))?;
    let place = Place::parse(url).map_err(|why| {
        Failure::usage(format!(
            "--url is not of the form https://host:port/path: {why}"
        ))
    })?;
    let tls = if place.tls {
        Some(connector(args, &place.host)?)
    } else {
        refuse_certificates(args, "give a --url that begins with https://")?;
        if args.tls {
            return Err(Failure::usage(
                "with --tls, --url has to begin with https://",
            ));
        }
        None
    };
    let (headers, tokens) = (headers(args)?, tokens(args)?);
    let is_authorization = |(name, _): &(String, Secret)| name == "authorization";
    if tokens.is_some() && headers.iter().any(is_authorization) {
        return Err(Failure::usage(
            "there are a token and a header 'Authorization'; give one of them",
        ));
    }
    let variable = |name: &str| std::env::var(name).ok();
    Ok(Settings {
        proxy: choose(&place, variable).map_err(Failure::usage)?,
        headers,
        tokens,
        answer_timeout: args.answer_timeout,
        reconnect: reconnect(args),
        place,
        tls,
    })
}

/// The headers of every request, but for the token.
fn headers(args: &ClientArgs) -> Result<Vec<(String, Secret)>, Failure> {
    let mut headers = Vec::new();
    if let Some(file) = &args.header_file {
        let text = text::read(file).map_err(|err| {
            Failure::caused(
                format!("could not read --header-file {}", file.display()),
                err,
            )
            .into_usage()
        })?;
        let lines = text.lines().map(str::trim).zip(1..);
        for (line, number) in lines.filter(|(line, _)| !line.is_empty() && !line.starts_with('#')) {
            let origin = format!("line {number} of --header-file {}", file.display());
            headers.push(header(line, &origin)?);
        }
    }
    for line in &args.header {
        headers.push(header(line.expose(), "--header")?);
    }
    if args.header.is_empty()
        && let Ok(line) = std::env::var("MCP_REMOTE_HEADER")
    {
        headers.push(header(&line, "MCP_REMOTE_HEADER")?);
    }
    Ok(headers)
}

fn header(line: &str, origin: &str) -> Result<(String, Secret), Failure> {
    parse(line, origin, |name| std::env::var(name).ok())
}

/// Reads `Name: value`; `variable` gives what `${NAME}` stands for. Errors quote no value: it may be a
/// secret.
fn parse(
    line: &str,
    origin: &str,
    variable: impl Fn(&str) -> Option<String>,
) -> Result<(String, Secret), Failure> {
    let (name, value) = line
        .split_once(':')
        .ok_or_else(|| Failure::usage(format!("{origin} is not of the form 'Name: value'")))?;
    let name = HeaderName::from_bytes(name.trim().as_bytes()).map_err(|_| {
        Failure::usage(format!("{origin} does not begin with the name of a header"))
    })?;
    if OURS.contains(&name.as_str()) {
        return Err(Failure::usage(format!(
            "{origin} sets '{name}', which mcp-remote sets itself"
        )));
    }
    let value = expand(value.trim(), variable)
        .map_err(|missing| Failure::usage(format!("{origin} sets '{name}' from {missing}")))?;
    if HeaderValue::from_str(&value).is_err() {
        return Err(Failure::usage(format!(
            "{origin} sets '{name}' to something that no header can hold, such as a line break"
        )));
    }
    Ok((name.as_str().to_owned(), value.into()))
}

/// The text with variables in the place of their names.
fn expand(text: &str, variable: impl Fn(&str) -> Option<String>) -> Result<String, String> {
    let mut expanded = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        let (name, after) = after.split_once('}').ok_or("a '${' that has no '}'")?;
        let value = variable(name).ok_or_else(|| {
            format!("the environment variable '{name}', which is not set or not text")
        })?;
        expanded += before;
        // A file that was read into a variable ends with a newline.
        expanded += value.trim_end_matches(['\r', '\n']);
        rest = after;
    }
    expanded += rest;
    Ok(expanded)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<(String, String), String> {
        let variable = |name: &str| match name {
            "TOKEN" => Some("s3cret\n".to_owned()),
            "BAD" => Some("a\nb".to_owned()),
            _ => None,
        };
        match parse(line, "--header", variable) {
            Ok((name, value)) => Ok((name, value.expose().to_owned())),
            Err(failure) => Err(failure.to_string()),
        }
    }

    #[test]
    fn headers_are_read_and_variables_filled_in() {
        for (line, name, value) in [
            ("X-Key: abc", "x-key", "abc"),
            ("x-key:abc: d ", "x-key", "abc: d"),
            (
                "Authorization: Bearer ${TOKEN}",
                "authorization",
                "Bearer s3cret",
            ),
            ("X: ${TOKEN}${TOKEN}$x", "x", "s3crets3cret$x"),
            ("X:", "x", ""),
        ] {
            let expected = (name.to_owned(), value.to_owned());
            assert_eq!(parsed(line), Ok(expected), "{line}");
        }
    }

    #[test]
    fn what_is_wrong_is_named_and_values_are_not() {
        for (line, says) in [
            ("s3cret", "'Name: value'"),
            ("a b: s3cret", "the name of a header"),
            ("Host: s3cret", "sets 'host', which"),
            ("Mcp-Session-Id: s3cret", "sets 'mcp-session-id'"),
            ("X: ${NO}", "'NO', which is not set"),
            ("X: ${NO", "has no '}'"),
            ("X: ${BAD}", "a line break"),
        ] {
            let err = parsed(line).unwrap_err();
            assert!(
                err.contains(says) && !err.contains("s3cret"),
                "{line}: {err}"
            );
        }
    }
}
