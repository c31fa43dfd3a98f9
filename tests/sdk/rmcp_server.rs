//! A stdio MCP server on the `rmcp` crate that serves legacy and modern clients: the twin of
//! `py_server.py`, whose comments apply. In addition it has completion, paged lists and, for
//! clients that declare the extension, tasks.

// Logging, sampling and roots are deprecated since 2026-07-28, but legacy clients depend on them.
#![expect(deprecated)]

#[path = "../support/rmcp.rs"]
mod support;

use rmcp::ServerHandler;
use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, CancelTaskParams, ClientCapabilities,
    CompleteRequestParams, CompleteResult, CompletionInfo, ContentBlock, CreateTaskResult,
    ErrorData, GetPromptRequestParams, GetPromptResponse, GetTaskParams, GetTaskResult,
    Implementation, InputRequest, InputRequests, InputRequiredResult, ListPromptsResult,
    ListResourceTemplatesResult, ListResourcesResult, ListToolsResult, LoggingLevel,
    LoggingMessageNotificationParam, PaginatedRequestParams, ProgressNotificationParam,
    ReadResourceRequestParams, ReadResourceResponse, ResourceUpdatedNotificationParam,
    ServerCapabilities, ServerConfig, SetLevelRequestParams, SubscribeRequestParams,
    SubscriptionFilter, UnsubscribeRequestParams,
};
use rmcp::service::SubscriptionContext;
use rmcp::task_manager::{TaskExit, TaskManager, TaskOptions};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use support::{Context, Listeners, failed, is_modern, model, result};

const LEVELS: [LoggingLevel; 8] = [
    LoggingLevel::Debug,
    LoggingLevel::Info,
    LoggingLevel::Notice,
    LoggingLevel::Warning,
    LoggingLevel::Error,
    LoggingLevel::Critical,
    LoggingLevel::Alert,
    LoggingLevel::Emergency,
];

/// The page size of the resource list.
const PAGE: usize = 2;

const NOTES: [(&str, &str); 5] = [
    ("note://one", "the first note"),
    ("note://two", "the second note"),
    ("note://three", "the third note"),
    ("note://four", "the fourth note"),
    ("note://five", "the fifth note"),
];

#[derive(Default)]
struct Server {
    state: Mutex<State>,
    tasks: TaskManager,
    listeners: Listeners,
}

/// The state that MCP itself requires of a server.
#[derive(Default)]
struct State {
    cancelled: Vec<String>,
    subscribed: BTreeSet<String>,
    level: usize,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    support::serve::<Server>().await
}

fn rank(level: LoggingLevel) -> usize {
    LEVELS.iter().position(|known| *known == level).unwrap_or(0)
}

/// The name of a tool and its parameters, each with its JSON type.
fn tool(name: &str, parameters: &[(&str, &str)]) -> Value {
    let properties: serde_json::Map<String, Value> = parameters
        .iter()
        .map(|(name, kind)| ((*name).to_owned(), json!({"type": kind})))
        .collect();
    json!({"name": name, "description": name, "inputSchema": {"type": "object", "properties": properties}})
}

/// The question that the tool of this name asks the client.
fn question(tool: &str, tag: &str) -> Result<InputRequest, ErrorData> {
    model(match tool {
        "ask" => json!({"method": "elicitation/create", "params": {
            "mode": "form",
            "message": format!("{tag} asks for a name"),
            "requestedSchema": {
                "type": "object",
                "properties": {"name": {"type": "string"}},
                "required": ["name"],
            },
        }}),
        "sample" => json!({"method": "sampling/createMessage", "params": {
            "messages": [
                {"role": "user", "content": {"type": "text", "text": format!("{tag} asks the model")}},
            ],
            "maxTokens": 50,
        }}),
        _ => json!({"method": "roots/list"}),
    })
}

/// The capability that the client needs for that.
fn needed_for(tool: &str) -> ClientCapabilities {
    let capabilities = ClientCapabilities::builder();
    match tool {
        "ask" => capabilities.enable_elicitation().build(),
        "sample" => capabilities.enable_sampling().build(),
        _ => capabilities.enable_roots().build(),
    }
}

/// The client's answer, in words.
fn told(tool: &str, answer: &Value) -> String {
    match tool {
        "ask" => format!("user said {}", answer["content"]["name"]),
        "sample" => {
            let content = &answer["content"];
            let content = content.get(0).unwrap_or(content);
            format!("model said {}", content["text"])
        }
        _ => format!("roots are {}", answer["roots"]),
    }
}

impl Server {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn slow(&self, arguments: &Value, tag: &str, context: &Context) -> String {
        let steps = arguments["steps"].as_u64().unwrap_or(4);
        let pause = Duration::from_millis(arguments["ms"].as_u64().unwrap_or(0)) / steps as u32;
        for step in 1..=steps {
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = context.ct.cancelled() => {
                    self.state().cancelled.push(tag.to_owned());
                    return format!("{tag}: cancelled");
                }
            }
            if let Some(token) = context.meta.get_progress_token() {
                let progress = ProgressNotificationParam::new(token, step as f64)
                    .with_total(steps as f64)
                    .with_message(tag);
                // If this cannot be sent, neither can the response.
                let _gone = context.peer.notify_progress(progress).await;
            }
        }
        format!("{tag}: done after {steps} steps")
    }

    async fn log(&self, tag: &str, context: &Context) -> Result<(), ErrorData> {
        let wanted = if is_modern(context) {
            context.meta.log_level().map(rank)
        } else {
            Some(self.state().level)
        };
        for level in LEVELS.into_iter().skip(wanted.unwrap_or(LEVELS.len())) {
            let data = json!(format!("{tag}: {level:?}"));
            let message = LoggingMessageNotificationParam::new(level, data);
            let sent = context.peer.notify_logging_message(message).await;
            sent.map_err(failed)?;
        }
        Ok(())
    }

    async fn touch(&self, uri: &str, context: &Context) -> Result<(), ErrorData> {
        for sink in self.listeners.current() {
            // A client that has not subscribed to it does not get it.
            let _not_accepted = sink.notify_resource_updated(uri).await;
        }
        let subscribed = self.state().subscribed.contains(uri);
        if subscribed && !is_modern(context) {
            let update = ResourceUpdatedNotificationParam::new(uri);
            let sent = context.peer.notify_resource_updated(update).await;
            sent.map_err(failed)?;
        }
        Ok(())
    }

    /// Asks a legacy client with a request of our own; `None` when a modern one must be asked through a
    /// result and has not yet answered. The state that a modern one must return is checked.
    async fn asked(
        &self,
        request: &CallToolRequestParams,
        tag: &str,
        context: &Context,
    ) -> Result<Option<Value>, ErrorData> {
        if is_modern(context) {
            let responses = request.input_responses.as_ref();
            let Some(answer) = responses.and_then(|responses| responses.get("answer")) else {
                let needed = needed_for(&request.name);
                let able = context.client_capabilities().is_some_and(|has| {
                    (needed.elicitation.is_none() || has.elicitation.is_some())
                        && (needed.sampling.is_none() || has.sampling.is_some())
                        && (needed.roots.is_none() || has.roots.is_some())
                });
                return if able {
                    Ok(None)
                } else {
                    Err(ErrorData::missing_required_client_capability(needed))
                };
            };
            if request.request_state != Some(state_for(tag)) {
                return Err(ErrorData::invalid_params(
                    "requestState has changed on its way",
                    None,
                ));
            }
            return Ok(Some(answer.clone()));
        }
        let question = question(&request.name, tag)?;
        support::ask(context, question).await.map(Some)
    }

    /// Runs in the background if the client supports tasks, and immediately if not.
    async fn work(&self, arguments: &Value, tag: &str, context: &Context) -> CallToolResponse {
        let (tag, pause) = (
            tag.to_owned(),
            Duration::from_millis(arguments["ms"].as_u64().unwrap_or(0)),
        );
        let done =
            move || CallToolResult::success(vec![ContentBlock::text(format!("{tag}: worked"))]);
        let takes_tasks = context
            .client_capabilities()
            .is_some_and(|capabilities| capabilities.supports_tasks());
        if !takes_tasks {
            tokio::time::sleep(pause).await;
            return done().into();
        }
        let options = TaskOptions::new().with_poll_interval_ms(20);
        let task = self.tasks.spawn(options, move |task| {
            Box::pin(async move {
                tokio::select! {
                    () = tokio::time::sleep(pause) => Ok(done()),
                    () = task.cancelled() => Err(TaskExit::Cancelled),
                }
            })
        });
        CreateTaskResult::new(task).into()
    }
}

/// Text that not every transport returns unchanged.
fn state_for(tag: &str) -> String {
    format!("{tag} \u{2028}\\/\"\u{e9} 1.0 -0 \u{1f600}")
}

impl ServerHandler for Server {
    fn get_info(&self) -> ServerConfig {
        let capabilities = ServerCapabilities::builder()
            .enable_tools()
            .enable_tool_list_changed()
            .enable_prompts()
            .enable_resources()
            .enable_resources_subscribe()
            .enable_logging()
            .enable_completions()
            .enable_tasks()
            .build();
        ServerConfig::new(capabilities)
            .with_server_info(Implementation::new("rmcp-server", "1.0.0"))
    }

    async fn list_tools(
        &self,
        _request: Option<PaginatedRequestParams>,
        _context: Context,
    ) -> Result<ListToolsResult, ErrorData> {
        let tag = ("tag", "string");
        result(json!({"tools": [
            tool("echo", &[("text", "string"), tag]),
            tool("slow", &[("ms", "integer"), ("steps", "integer"), tag]),
            tool("cancelled", &[]),
            tool("whoami", &[]),
            tool("fail", &[tag]),
            tool("log", &[tag]),
            tool("touch", &[("uri", "string")]),
            tool("announce", &[]),
            tool("ask", &[tag]),
            tool("sample", &[tag]),
            tool("roots", &[tag]),
            tool("work", &[("ms", "integer"), tag]),
        ]}))
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: Context,
    ) -> Result<CallToolResponse, ErrorData> {
        let arguments = Value::Object(request.arguments.clone().unwrap_or_default());
        let text = |name: &str| arguments[name].as_str().unwrap_or_default();
        let tag = text("tag");
        let answer = match &*request.name {
            "echo" => format!("{tag}: {}", text("text")),
            "slow" => self.slow(&arguments, tag, &context).await,
            "cancelled" => format!("cancelled: {}", self.state().cancelled.join(" ")),
            "whoami" => {
                let client = context.client_info().map(|client| client.name);
                format!("you are {}", client.unwrap_or_default())
            }
            "fail" => {
                let content = ContentBlock::text(format!("{tag}: failed as asked"));
                return Ok(CallToolResult::error(vec![content]).into());
            }
            "log" => {
                self.log(tag, &context).await?;
                format!("{tag}: logged")
            }
            "touch" => {
                self.touch(text("uri"), &context).await?;
                format!("touched {}", text("uri"))
            }
            "announce" => {
                self.listeners.announce_tools(&context).await?;
                "announced".to_owned()
            }
            name @ ("ask" | "sample" | "roots") => {
                match self.asked(&request, tag, &context).await? {
                    Some(answer) => format!("{tag}: {}", told(name, &answer)),
                    None => {
                        let question = question(name, tag)?;
                        let questions = InputRequests::from([("answer".to_owned(), question)]);
                        let state = Some(state_for(tag));
                        return Ok(InputRequiredResult::new(Some(questions), state).into());
                    }
                }
            }
            "work" => return Ok(self.work(&arguments, tag, &context).await),
            other => {
                let text = format!("Unknown tool: {other}");
                return Err(ErrorData::invalid_params(text, None));
            }
        };
        Ok(CallToolResult::success(vec![ContentBlock::text(answer)]).into())
    }

    async fn list_resources(
        &self,
        request: Option<PaginatedRequestParams>,
        _context: Context,
    ) -> Result<ListResourcesResult, ErrorData> {
        let cursor = request.and_then(|request| request.cursor);
        let start = match cursor.as_deref().map(str::parse) {
            None => 0,
            Some(Ok(start)) if start < NOTES.len() => start,
            Some(_) => return Err(ErrorData::invalid_params("Invalid cursor", None)),
        };
        let end = NOTES.len().min(start + PAGE);
        let page: Vec<Value> = NOTES[start..end]
            .iter()
            .map(|(uri, _)| json!({"uri": uri, "name": uri}))
            .collect();
        let mut list = json!({"resources": page});
        if end < NOTES.len() {
            list["nextCursor"] = json!(end.to_string());
        }
        result(list)
    }

    async fn list_resource_templates(
        &self,
        _request: Option<PaginatedRequestParams>,
        _context: Context,
    ) -> Result<ListResourceTemplatesResult, ErrorData> {
        result(json!({"resourceTemplates": [{"uriTemplate": "note://by/{name}", "name": "by"}]}))
    }

    async fn read_resource(
        &self,
        request: ReadResourceRequestParams,
        _context: Context,
    ) -> Result<ReadResourceResponse, ErrorData> {
        let uri = &*request.uri;
        let note = NOTES.iter().find(|(known, _)| *known == uri);
        let text = match (note, uri.strip_prefix("note://by/")) {
            (Some((_, text)), _) => (*text).to_owned(),
            (None, Some(name)) => format!("a note by {name}"),
            (None, None) => {
                let text = format!("Resource not found: {uri}");
                return Err(ErrorData::resource_not_found(text, None));
            }
        };
        let contents = json!({"contents": [{"uri": uri, "mimeType": "text/plain", "text": text}]});
        result(contents).map(ReadResourceResponse::Complete)
    }

    async fn list_prompts(
        &self,
        _request: Option<PaginatedRequestParams>,
        _context: Context,
    ) -> Result<ListPromptsResult, ErrorData> {
        let arguments = json!([{"name": "name", "required": true}]);
        result(json!({"prompts": [{"name": "greet", "arguments": arguments}]}))
    }

    async fn get_prompt(
        &self,
        request: GetPromptRequestParams,
        _context: Context,
    ) -> Result<GetPromptResponse, ErrorData> {
        let arguments = Value::Object(request.arguments.unwrap_or_default());
        let text = format!(
            "Please greet {}.",
            arguments["name"].as_str().unwrap_or_default()
        );
        let content = json!({"type": "text", "text": text});
        let messages = json!({"messages": [{"role": "user", "content": content}]});
        result(messages).map(GetPromptResponse::Complete)
    }

    async fn complete(
        &self,
        request: CompleteRequestParams,
        _context: Context,
    ) -> Result<CompleteResult, ErrorData> {
        let start = request.argument.value;
        let values = vec![format!("{start}-one"), format!("{start}-two")];
        let completion = CompletionInfo::with_all_values(values).map_err(failed)?;
        Ok(CompleteResult::new(completion))
    }

    async fn set_level(
        &self,
        request: SetLevelRequestParams,
        _context: Context,
    ) -> Result<(), ErrorData> {
        self.state().level = rank(request.level);
        Ok(())
    }

    async fn subscribe(
        &self,
        request: SubscribeRequestParams,
        _context: Context,
    ) -> Result<(), ErrorData> {
        self.state().subscribed.insert(request.uri.to_string());
        Ok(())
    }

    async fn unsubscribe(
        &self,
        request: UnsubscribeRequestParams,
        _context: Context,
    ) -> Result<(), ErrorData> {
        self.state().subscribed.remove(&*request.uri);
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

    async fn cancel_task(
        &self,
        request: CancelTaskParams,
        _context: Context,
    ) -> Result<(), ErrorData> {
        self.tasks.cancel_task(&request.task_id)
    }
}
