//! The stdio MCP server that the official conformance suite asks for, on the `rmcp` crate: the tools, prompts
//! and resources that its scenarios call by name.

// Logging, sampling and roots are deprecated since 2026-07-28, but the suite has them.
#![expect(deprecated)]

mod offer;

use rmcp::model::{
    CallToolRequestParams, CallToolResponse, ClientCapabilities, CompleteRequestParams,
    CompleteResult, ErrorData, GetPromptRequestParams, GetPromptResponse, Implementation,
    InputRequest, InputRequests, InputRequiredResult, ListPromptsResult,
    ListResourceTemplatesResult, ListResourcesResult, ListToolsResult, LoggingLevel,
    LoggingMessageNotificationParam, PaginatedRequestParams, ProgressNotificationParam,
    ProtocolVersion, ReadResourceRequestParams, ReadResourceResponse, ServerCapabilities,
    ServerConfig, ServerRequest, SetLevelRequestParams, SubscribeRequestParams, SubscriptionFilter,
    UnsubscribeRequestParams,
};
use rmcp::service::{RequestContext, RoleServer, SubscriptionContext, SubscriptionSink};
use rmcp::{ServerHandler, ServiceExt};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

type Context = RequestContext<RoleServer>;

/// Between two messages of one tool.
const PAUSE: Duration = Duration::from_millis(50);

/// What a client of the protocol without sessions has to bring back.
const ROUND_ONE: &str = "round-1";
const ROUND_TWO: &str = "round-2";

#[derive(Default)]
struct Server {
    listening: Mutex<Vec<Arc<SubscriptionSink>>>,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let service = Server::default().serve(rmcp::transport::stdio()).await?;
    service.waiting().await?;
    Ok(())
}

fn model<T: DeserializeOwned>(json: Value) -> Result<T, ErrorData> {
    serde_json::from_value(json).map_err(|err| ErrorData::internal_error(err.to_string(), None))
}

/// A result from its JSON text, which is shorter than its builders.
fn result<T: DeserializeOwned>(mut json: Value) -> Result<T, ErrorData> {
    json["resultType"] = json!("complete");
    model(json)
}

/// A list, which may be kept for a minute.
fn list<T: DeserializeOwned>(mut json: Value) -> Result<T, ErrorData> {
    json["ttlMs"] = json!(60_000);
    json["cacheScope"] = json!("public");
    result(json)
}

fn failed(err: impl std::fmt::Display) -> ErrorData {
    ErrorData::internal_error(err.to_string(), None)
}

fn is_modern(context: &Context) -> bool {
    context
        .protocol_version()
        .is_some_and(|version| version >= ProtocolVersion::V_2026_07_28)
}

fn text(text: impl Into<String>) -> Value {
    json!({"content": [{"type": "text", "text": text.into()}]})
}

/// What a tool, or a prompt, does next.
enum Step {
    Done(Value),
    /// Questions by name, and what the client has to bring back with the answers.
    Ask(Value, Option<&'static str>),
}

impl Server {
    fn listening(&self) -> MutexGuard<'_, Vec<Arc<SubscriptionSink>>> {
        self.listening
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

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

    /// Asks a client of the protocol with sessions.
    async fn ask(&self, context: &Context, question: Value) -> Result<Value, ErrorData> {
        let question = match model(question)? {
            InputRequest::CreateMessage(request) => ServerRequest::CreateMessageRequest(request),
            InputRequest::Elicitation(request) => ServerRequest::ElicitRequest(request),
            _ => return Err(failed("there is no such question")),
        };
        let answer = context.peer.send_request(question).await.map_err(failed)?;
        serde_json::to_value(answer).map_err(failed)
    }

    async fn legacy_question(
        &self,
        name: &str,
        arguments: &Value,
        context: &Context,
    ) -> Result<Value, ErrorData> {
        let question = offer::legacy_question(name, arguments);
        let answer = self.ask(context, question).await?;
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

    async fn announce(&self, tools: bool, context: &Context) -> Result<(), ErrorData> {
        let sinks = self.listening().clone();
        for sink in sinks {
            let _not_accepted = if tools {
                sink.notify_tool_list_changed().await
            } else {
                sink.notify_prompt_list_changed().await
            };
        }
        if !is_modern(context) {
            let sent = if tools {
                context.peer.notify_tool_list_changed().await
            } else {
                context.peer.notify_prompt_list_changed().await
            };
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
            "test_x_mcp_header" => text(format!("region={}", arguments["region"])),
            "test_missing_capability" => {
                let has = context.client_capabilities();
                if has.is_none_or(|has| has.sampling.is_none()) {
                    let needed = ClientCapabilities::builder().enable_sampling().build();
                    return Err(ErrorData::missing_required_client_capability(needed));
                }
                text("Client declared sampling capability; proceeding.")
            }
            "test_trigger_tool_change" | "test_trigger_prompt_change" => {
                self.announce(name == "test_trigger_tool_change", context)
                    .await?;
                text("changed")
            }
            _ => {
                let responses = request.input_responses.as_ref();
                let responses = responses.map(|responses| json!(responses));
                let state = request.request_state.as_deref();
                let has = context.client_capabilities().unwrap_or_default();
                return offer::round(name, responses.unwrap_or_default(), state, &has);
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
        let sink = Arc::new(context.sink().clone());
        self.listening().push(Arc::clone(&sink));
        context.cancelled().await;
        self.listening().retain(|other| !Arc::ptr_eq(other, &sink));
        Ok(())
    }
}
