//! The stdio MCP server that the official conformance suite needs, on the `rmcp` crate: the tools, prompts
//! and resources that its scenarios use by name.

// Logging, sampling and roots are deprecated since 2026-07-28, but the suite tests them.
#![expect(deprecated)]

mod offer;
#[path = "../support/rmcp.rs"]
mod support;
mod tasks;

use rmcp::ServerHandler;
use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CancelTaskParams, ClientCapabilities,
    CompleteRequestParams, CompleteResult, CreateTaskResult, ErrorData, GetPromptRequestParams,
    GetPromptResponse, GetTaskParams, GetTaskResult, Implementation, InputRequests,
    InputRequiredResult, ListPromptsResult, ListResourceTemplatesResult, ListResourcesResult,
    ListToolsResult, LoggingLevel, LoggingMessageNotificationParam, PaginatedRequestParams,
    ProgressNotificationParam, ReadResourceRequestParams, ReadResourceResponse, ServerCapabilities,
    ServerConfig, SetLevelRequestParams, SubscribeRequestParams, SubscriptionFilter,
    UnsubscribeRequestParams, UpdateTaskParams,
};
use rmcp::service::SubscriptionContext;
use rmcp::task_manager::TaskManager;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;
use support::{Context, Listeners, failed, is_modern, model, result};

/// Between two messages of one tool.
const PAUSE: Duration = Duration::from_millis(50);

/// The state that a client of the protocol without sessions must return.
const ROUND_ONE: &str = "round-1";
const ROUND_TWO: &str = "round-2";

#[derive(Default)]
struct Server {
    listeners: Listeners,
    tasks: TaskManager,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    support::serve::<Server>().await
}

/// A list that may be cached for a minute.
fn list<T: DeserializeOwned>(mut json: Value) -> Result<T, ErrorData> {
    json["ttlMs"] = json!(60_000);
    json["cacheScope"] = json!("public");
    result(json)
}

fn text(text: impl Into<String>) -> Value {
    json!({"content": [{"type": "text", "text": text.into()}]})
}

/// The next step of a tool or a prompt.
enum Step {
    Done(Value),
    /// Questions by name, and the state that the client must return with the answers.
    Ask(Value, Option<&'static str>),
    /// A task that was started in the background.
    Task(CreateTaskResult),
}

impl Server {
    async fn log(&self, context: &Context, words: &str) -> Result<(), ErrorData> {
        let wanted = context.meta.log_level();
        if is_modern(context) && wanted.is_none() {
            return Ok(());
        }
        let message = LoggingMessageNotificationParam::new(LoggingLevel::Info, json!(words));
        let sent = context.peer.notify_logging_message(message).await;
        sent.map_err(failed)
    }

    async fn progress(&self, context: &Context) -> Result<(), ErrorData> {
        let Some(token) = context.meta.get_progress_token() else {
            return Ok(());
        };
        for step in [0.0, 50.0, 100.0] {
            let progress = ProgressNotificationParam::new(token.clone(), step)
                .with_total(100.0)
                .with_message(format!("Completed step {step} of 100"));
            let sent = context.peer.notify_progress(progress).await;
            sent.map_err(failed)?;
            tokio::time::sleep(PAUSE).await;
        }
        Ok(())
    }

    async fn legacy_question(
        &self,
        name: &str,
        arguments: &Value,
        context: &Context,
    ) -> Result<Value, ErrorData> {
        let question = model(offer::legacy_question(name, arguments))?;
        let answer = support::ask(context, question).await?;
        if name == "test_sampling" {
            let content = &answer["content"];
            let content = content.get(0).unwrap_or(content);
            let words = content["text"].as_str().unwrap_or_default();
            return Ok(text(format!("LLM response: {words}")));
        }
        let (action, content) = (&answer["action"], &answer["content"]);
        let action = action.as_str().unwrap_or_default();
        Ok(text(format!(
            "User response: action={action}, content={content}"
        )))
    }

    async fn announce_prompts(&self, context: &Context) -> Result<(), ErrorData> {
        for sink in self.listeners.current() {
            let _not_accepted = sink.notify_prompt_list_changed().await;
        }
        if !is_modern(context) {
            let sent = context.peer.notify_prompt_list_changed().await;
            sent.map_err(failed)?;
        }
        Ok(())
    }

    async fn run(
        &self,
        request: &CallToolRequestParams,
        context: &Context,
    ) -> Result<Step, ErrorData> {
        let arguments = Value::Object(request.arguments.clone().unwrap_or_default());
        let name = &*request.name;
        if let Some(content) = offer::content(name) {
            return Ok(Step::Done(content));
        }
        let done = match name {
            "test_tool_with_logging" | "test_logging_tool" => {
                for words in ["started", "processing data", "completed"] {
                    self.log(context, &format!("Tool execution {words}"))
                        .await?;
                    tokio::time::sleep(PAUSE).await;
                }
                text("Tool with logging executed successfully")
            }
            "test_reconnection" => {
                tokio::time::sleep(4 * PAUSE).await;
                text("Reconnection test completed")
            }
            "test_tool_with_progress" => {
                self.progress(context).await?;
                text("done")
            }
            "test_error_handling" => {
                let mut error = text("This tool intentionally returns an error for testing");
                error["isError"] = json!(true);
                error
            }
            "test_sampling"
            | "test_elicitation"
            | "test_elicitation_sep1034_defaults"
            | "test_elicitation_sep1330_enums" => {
                self.legacy_question(name, &arguments, context).await?
            }
            "greet" => {
                let name = arguments["name"].as_str().unwrap_or_default();
                text(format!("Hello, {name}!"))
            }
            "test_x_mcp_header" => text(format!("region={}", arguments["region"])),
            "test_missing_capability" => {
                let has = context.client_capabilities();
                if has.is_none_or(|has| has.sampling.is_none()) {
                    let needed = ClientCapabilities::builder().enable_sampling().build();
                    return Err(ErrorData::missing_required_client_capability(needed));
                }
                text("Client declared sampling capability; proceeding.")
            }
            "test_trigger_tool_change" => {
                self.listeners.announce_tools(context).await?;
                text("changed")
            }
            "test_trigger_prompt_change" => {
                self.announce_prompts(context).await?;
                text("changed")
            }
            _ => {
                let responses = request.input_responses.as_ref();
                let responses = responses.map(|responses| json!(responses));
                let state = request.request_state.as_deref();
                let responses = responses.unwrap_or_default();
                let has = context.client_capabilities().unwrap_or_default();
                if tasks::NAMES.contains(&name) {
                    return tasks::call(&self.tasks, name, &arguments, &responses, &has);
                }
                return offer::round(name, responses, state, &has);
            }
        };
        Ok(Step::Done(done))
    }
}

fn required(questions: Value, state: Option<&str>) -> Result<InputRequiredResult, ErrorData> {
    let questions: InputRequests = model(questions)?;
    Ok(InputRequiredResult::new(
        Some(questions),
        state.map(str::to_owned),
    ))
}

impl ServerHandler for Server {
    fn get_info(&self) -> ServerConfig {
        let capabilities = ServerCapabilities::builder()
            .enable_tools()
            .enable_tool_list_changed()
            .enable_prompts()
            .enable_prompts_list_changed()
            .enable_resources()
            .enable_resources_subscribe()
            .enable_logging()
            .enable_completions()
            .enable_tasks()
            .build();
        ServerConfig::new(capabilities)
            .with_server_info(Implementation::new("conformance", "1.0.0"))
    }

    async fn list_tools(
        &self,
        _request: Option<PaginatedRequestParams>,
        _context: Context,
    ) -> Result<ListToolsResult, ErrorData> {
        list(json!({"tools": offer::tools()}))
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: Context,
    ) -> Result<CallToolResponse, ErrorData> {
        match self.run(&request, &context).await? {
            Step::Done(done) => {
                let done: rmcp::model::CallToolResult = result(done)?;
                Ok(done.into())
            }
            Step::Ask(questions, state) => Ok(required(questions, state)?.into()),
            Step::Task(task) => Ok(task.into()),
        }
    }

    async fn list_resources(
        &self,
        _request: Option<PaginatedRequestParams>,
        _context: Context,
    ) -> Result<ListResourcesResult, ErrorData> {
        list(json!({"resources": offer::resources()}))
    }

    async fn list_resource_templates(
        &self,
        _request: Option<PaginatedRequestParams>,
        _context: Context,
    ) -> Result<ListResourceTemplatesResult, ErrorData> {
        let template = json!({"uriTemplate": "test://template/{id}/data", "name": "template",
            "description": "With a parameter", "mimeType": "application/json"});
        list(json!({"resourceTemplates": [template]}))
    }

    async fn read_resource(
        &self,
        request: ReadResourceRequestParams,
        _context: Context,
    ) -> Result<ReadResourceResponse, ErrorData> {
        let uri = &*request.uri;
        let Some(contents) = offer::resource(uri) else {
            let words = format!("Resource not found: {uri}");
            return Err(ErrorData::resource_not_found(
                words,
                Some(json!({"uri": uri})),
            ));
        };
        list(json!({"contents": [contents]})).map(ReadResourceResponse::Complete)
    }

    async fn list_prompts(
        &self,
        _request: Option<PaginatedRequestParams>,
        _context: Context,
    ) -> Result<ListPromptsResult, ErrorData> {
        list(json!({"prompts": offer::prompts()}))
    }

    async fn get_prompt(
        &self,
        request: GetPromptRequestParams,
        _context: Context,
    ) -> Result<GetPromptResponse, ErrorData> {
        let arguments = Value::Object(request.arguments.clone().unwrap_or_default());
        let responses = request.input_responses.as_ref();
        let responses = responses.map(|responses| json!(responses));
        match offer::prompt(&request.name, &arguments, &responses.unwrap_or_default())? {
            Step::Done(messages) => result(messages).map(GetPromptResponse::Complete),
            Step::Ask(questions, state) => Ok(GetPromptResponse::InputRequired(required(
                questions, state,
            )?)),
            Step::Task(_) => Err(failed("a prompt is no task")),
        }
    }

    async fn complete(
        &self,
        _request: CompleteRequestParams,
        _context: Context,
    ) -> Result<CompleteResult, ErrorData> {
        result(json!({"completion": {"values": [], "total": 0, "hasMore": false}}))
    }

    async fn set_level(
        &self,
        _request: SetLevelRequestParams,
        _context: Context,
    ) -> Result<(), ErrorData> {
        Ok(())
    }

    async fn subscribe(
        &self,
        _request: SubscribeRequestParams,
        _context: Context,
    ) -> Result<(), ErrorData> {
        Ok(())
    }

    async fn unsubscribe(
        &self,
        _request: UnsubscribeRequestParams,
        _context: Context,
    ) -> Result<(), ErrorData> {
        Ok(())
    }

    fn accepted_subscription_filter(
        &self,
        requested: &SubscriptionFilter,
    ) -> Option<SubscriptionFilter> {
        Some(requested.supported_by(&self.get_info().capabilities))
    }

    async fn listen(&self, context: SubscriptionContext) -> Result<(), ErrorData> {
        self.listeners.listen(context).await
    }

    async fn get_task(
        &self,
        request: GetTaskParams,
        _context: Context,
    ) -> Result<GetTaskResult, ErrorData> {
        Ok(GetTaskResult::new(self.tasks.get_task(&request.task_id)?))
    }

    async fn update_task(
        &self,
        request: UpdateTaskParams,
        _context: Context,
    ) -> Result<(), ErrorData> {
        let responses = json!(request.input_responses);
        let responses: BTreeMap<String, Value> = model(responses)?;
        self.tasks.update_task(&request.task_id, responses)
    }

    async fn cancel_task(
        &self,
        request: CancelTaskParams,
        _context: Context,
    ) -> Result<(), ErrorData> {
        self.tasks.cancel_task(&request.task_id)
    }
}
