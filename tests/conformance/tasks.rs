//! The tools that run in the background, for clients that declare the extension for tasks (SEP-2663).

use super::support::{failed, model, result};
use super::{Step, offer, text};
use rmcp::model::{CallToolResult, ClientCapabilities, CreateTaskResult, ErrorData, InputRequest};
use rmcp::task_manager::{TaskContext, TaskExit, TaskManager, TaskOptions};
use serde_json::{Value, json};
use std::time::Duration;

/// All of them.
pub(super) const NAMES: [&str; 6] = [
    "slow_compute",
    "failing_job",
    "protocol_error_job",
    "confirm_delete",
    "multi_input",
    "test_tool_with_task",
];

/// The poll interval for clients.
const POLL: u64 = 50;

/// Calls one of them. Fast tools, and tools that a client without tasks may also call, respond
/// at once.
pub(super) fn call(
    tasks: &TaskManager,
    name: &str,
    arguments: &Value,
    responses: &Value,
    has: &ClientCapabilities,
) -> Result<Step, ErrorData> {
    let seconds = arguments["seconds"].as_f64().unwrap_or_default();
    if name == "slow_compute" && (seconds == 0.0 || !has.supports_tasks()) {
        return Ok(Step::Done(text("computed")));
    }
    if !has.supports_tasks() {
        let needed = ClientCapabilities::builder().enable_tasks().build();
        return Err(ErrorData::missing_required_client_capability(needed));
    }
    let user = responses["user_name"]["content"]["name"].as_str();
    if name == "test_tool_with_task" && user.is_none() {
        let question = json!({"user_name": offer::name_question("What is your name?")});
        return Ok(Step::Ask(question, None));
    }
    let (name, user) = (name.to_owned(), user.unwrap_or_default().to_owned());
    let options = TaskOptions::new().with_poll_interval_ms(POLL);
    let task = tasks.spawn(options, move |task| {
        Box::pin(async move { work(&task, &name, seconds, &user).await })
    });
    Ok(Step::Task(CreateTaskResult::new(task)))
}

async fn work(
    task: &TaskContext,
    name: &str,
    seconds: f64,
    user: &str,
) -> Result<CallToolResult, TaskExit> {
    let done = match name {
        "failing_job" => {
            let mut failure = text("failed as asked");
            failure["isError"] = json!(true);
            failure
        }
        "protocol_error_job" => return Err(failed("failed as asked").into()),
        "confirm_delete" => {
            let answer = task.request_input("confirm", model(offer::confirmation())?);
            text(format!("confirmed: {}", answer.await?["content"]))
        }
        "multi_input" => {
            let question = |words: &str| model::<InputRequest>(offer::name_question(words));
            let one = task.request_input("one", question("Who are you?")?);
            let two = task.request_input("two", question("And who else?")?);
            tokio::try_join!(one, two)?;
            text("both said")
        }
        "test_tool_with_task" => text(format!("worked for {user}")),
        _ => tokio::select! {
            () = tokio::time::sleep(Duration::from_secs_f64(seconds)) => text("computed"),
            () = task.cancelled() => return Err(TaskExit::Cancelled),
        },
    };
    Ok(result(done)?)
}
