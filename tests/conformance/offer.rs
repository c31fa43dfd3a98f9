//! The items that the suite looks up by name.

use super::{ROUND_ONE, ROUND_TWO, Step, tasks, text};
use rmcp::model::{ClientCapabilities, ErrorData};
use serde_json::{Value, json};

const IMAGE: &str = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8DwHwAFBQIAX8jx0gAAAABJRU5ErkJggg==";
const AUDIO: &str = "UklGRiYAAABXQVZFZm10IBAAAAABAAEAQB8AAAB9AAACABAAZGF0YQIAAAA=";

const PREFIX: &str = "test_input_required_result_";

/// Tools without parameters.
const PLAIN: [&str; 26] = [
    "test_simple_text",
    "test_image_content",
    "test_audio_content",
    "test_embedded_resource",
    "test_multiple_content_types",
    "test_tool_with_logging",
    "test_tool_with_progress",
    "test_logging_tool",
    "test_streaming_elicitation",
    "test_error_handling",
    "test_reconnection",
    "test_elicitation_sep1034_defaults",
    "test_elicitation_sep1330_enums",
    "test_missing_capability",
    "test_trigger_tool_change",
    "test_trigger_prompt_change",
    "test_input_required_result_elicitation",
    "test_input_required_result_sampling",
    "test_input_required_result_list_roots",
    "test_input_required_result_request_state",
    "test_input_required_result_multiple_inputs",
    "test_input_required_result_multi_round",
    "test_input_required_result_tampered_state",
    "test_input_required_result_capabilities",
    "test_input_required_result_capability_check",
    "test_input_required_result_validate_input",
];

pub(super) fn tools() -> Vec<Value> {
    let tool = |name: &str, schema: Value| json!({"name": name, "description": name, "inputSchema": schema});
    let with = |parameter: &str| json!({"type": "object", "properties": {parameter: {"type": "string"}}, "required": [parameter]});
    let mut tools: Vec<Value> = PLAIN
        .iter()
        .map(|name| tool(name, json!({"type": "object", "properties": {}})))
        .collect();
    tools.extend(tasks::NAMES.map(|name| tool(name, json!({"type": "object"}))));
    tools.push(tool("greet", with("name")));
    tools.push(tool("test_sampling", with("prompt")));
    tools.push(tool("test_elicitation", with("message")));
    let region = json!({"type": "string", "x-mcp-header": "Region"});
    tools.push(tool(
        "test_x_mcp_header",
        json!({"type": "object", "properties": {"region": region}}),
    ));
    tools.push(tool(
        "json_schema_2020_12_tool",
        json!({
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "type": "object",
            "$defs": {"address": {"$anchor": "addressDef", "type": "object", "properties": {
                "street": {"type": "string"}, "city": {"type": "string"},
            }}},
            "properties": {
                "name": {"type": "string"},
                "address": {"$ref": "#/$defs/address"},
                "contactMethod": {"type": "string", "enum": ["phone", "email"]},
                "phone": {"type": "string"},
                "email": {"type": "string"},
            },
            "allOf": [{"anyOf": [{"required": ["phone"]}, {"required": ["email"]}]}],
            "if": {"properties": {"contactMethod": {"const": "phone"}}, "required": ["contactMethod"]},
            "then": {"required": ["phone"]},
            "else": {"required": ["email"]},
            "additionalProperties": false,
        }),
    ));
    tools
}

fn image() -> Value {
    json!({"type": "image", "data": IMAGE, "mimeType": "image/png"})
}

fn embedded(uri: &str, kind: &str, text: &str) -> Value {
    json!({"type": "resource", "resource": {"uri": uri, "mimeType": kind, "text": text}})
}

/// Tools with a constant result.
pub(super) fn content(name: &str) -> Option<Value> {
    Some(match name {
        "test_simple_text" => text("This is a simple text response for testing."),
        "test_image_content" => json!({"content": [image()]}),
        "test_audio_content" => {
            json!({"content": [{"type": "audio", "data": AUDIO, "mimeType": "audio/wav"}]})
        }
        "test_embedded_resource" => json!({"content": [embedded(
            "test://embedded-resource", "text/plain", "This is an embedded resource content.")]}),
        "test_multiple_content_types" => json!({"content": [
            {"type": "text", "text": "Multiple content types test:"},
            image(),
            embedded("test://mixed-content-resource", "application/json", r#"{"test":"data","value":123}"#),
        ]}),
        "json_schema_2020_12_tool" => text("json_schema_2020_12_tool"),
        _ => return None,
    })
}

fn elicitation(message: &str, properties: Value) -> Value {
    let names: Vec<&String> = properties
        .as_object()
        .into_iter()
        .flat_map(|all| all.keys())
        .collect();
    json!({"method": "elicitation/create", "params": {
        "mode": "form",
        "message": message,
        "requestedSchema": {"type": "object", "properties": properties, "required": names},
    }})
}

pub(super) fn name_question(message: &str) -> Value {
    elicitation(message, json!({"name": {"type": "string"}}))
}

pub(super) fn confirmation() -> Value {
    elicitation("Please confirm", json!({"ok": {"type": "boolean"}}))
}

fn sampling(prompt: &str) -> Value {
    json!({"method": "sampling/createMessage", "params": {
        "messages": [{"role": "user", "content": {"type": "text", "text": prompt}}],
        "maxTokens": 100,
    }})
}

/// Questions to clients of the protocol with sessions.
pub(super) fn legacy_question(name: &str, arguments: &Value) -> Value {
    let word = |name: &str| arguments[name].as_str().unwrap_or_default();
    match name {
        "test_sampling" => sampling(word("prompt")),
        "test_elicitation" => elicitation(
            word("message"),
            json!({"response": {"type": "string", "description": "User's response"}}),
        ),
        "test_elicitation_sep1034_defaults" => elicitation(
            "Please provide user information",
            json!({
                "name": {"type": "string", "default": "John Doe"},
                "age": {"type": "integer", "default": 30},
                "score": {"type": "number", "default": 95.5},
                "status": {"type": "string", "enum": ["active", "inactive", "pending"], "default": "active"},
                "verified": {"type": "boolean", "default": true},
            }),
        ),
        _ => elicitation(
            "Please select values using different enum schema types",
            json!({
                "untitledSingle": {"type": "string", "enum": ["option1", "option2", "option3"]},
                "titledSingle": {"type": "string", "oneOf": [
                    {"const": "value1", "title": "First Option"},
                    {"const": "value2", "title": "Second Option"},
                    {"const": "value3", "title": "Third Option"},
                ]},
                "untitledMulti": {"type": "array", "items": {"type": "string", "enum": ["option1", "option2", "option3"]}},
                "titledMulti": {"type": "array", "items": {"anyOf": [
                    {"const": "value1", "title": "First Choice"},
                    {"const": "value2", "title": "Second Choice"},
                    {"const": "value3", "title": "Third Choice"},
                ]}},
                "legacyEnum": {"type": "string", "enum": ["opt1", "opt2", "opt3"],
                    "enumNames": ["Option One", "Option Two", "Option Three"]},
            }),
        ),
    }
}

/// One round of a tool that asks through its result.
pub(super) fn round(
    name: &str,
    responses: Value,
    state: Option<&str>,
    has: &ClientCapabilities,
) -> Result<Step, ErrorData> {
    let given = |key: &str| responses.get(key).filter(|answer| answer.is_object());
    let ask = |questions: Value, state| Ok(Step::Ask(questions, state));
    let done = |words: String| Ok(Step::Done(text(words)));
    let kind = match name {
        "test_streaming_elicitation" => "elicitation",
        _ => name.strip_prefix(PREFIX).unwrap_or_default(),
    };
    match kind {
        "elicitation" | "validate_input" => match given("user_name") {
            Some(answer)
                if answer["content"]["name"].is_string() || answer["action"] != "accept" =>
            {
                let name = answer["content"]["name"].as_str();
                done(format!("Hello, {}!", name.unwrap_or("stranger")))
            }
            _ => ask(
                json!({"user_name": name_question("What is your name?")}),
                None,
            ),
        },
        "sampling" => match given("capital_question") {
            Some(answer) => {
                let content = &answer["content"];
                let content = content.get(0).unwrap_or(content);
                done(format!(
                    "Model said: {}",
                    content["text"].as_str().unwrap_or("?")
                ))
            }
            None => ask(
                json!({"capital_question": sampling("What is the capital of France?")}),
                None,
            ),
        },
        "list_roots" => match given("client_roots") {
            Some(answer) => {
                let count = answer["roots"].as_array().map_or(0, Vec::len);
                done(format!("Client exposed {count} root(s)."))
            }
            None => ask(json!({"client_roots": {"method": "roots/list"}}), None),
        },
        _ => stateful_round(name, kind, &responses, state, has),
    }
}

/// One round of a tool that asks more than once, or gives the client state to return.
fn stateful_round(
    name: &str,
    kind: &str,
    responses: &Value,
    state: Option<&str>,
    has: &ClientCapabilities,
) -> Result<Step, ErrorData> {
    let given = |key: &str| responses.get(key).filter(|answer| answer.is_object());
    let ask = |questions: Value, state| Ok(Step::Ask(questions, state));
    let done = |words: String| Ok(Step::Done(text(words)));
    let tampered = || {
        Err(ErrorData::invalid_params(
            "requestState has been changed",
            None,
        ))
    };
    match kind {
        "request_state" => match given("confirm") {
            Some(_) if state == Some(ROUND_ONE) => {
                done("state-ok: confirmation received".to_owned())
            }
            Some(_) => tampered(),
            None => ask(json!({"confirm": confirmation()}), Some(ROUND_ONE)),
        },
        "tampered_state" => match state {
            None => ask(json!({"confirm": confirmation()}), Some(ROUND_ONE)),
            Some(ROUND_ONE) => done("state-ok".to_owned()),
            Some(_) => tampered(),
        },
        "multiple_inputs" => {
            let all = ["user_name", "greeting", "client_roots"];
            if all.iter().all(|key| given(key).is_some()) {
                return done("All inputs received.".to_owned());
            }
            let questions = json!({
                "user_name": name_question("What is your name?"),
                "greeting": sampling("Generate a greeting"),
                "client_roots": {"method": "roots/list"},
            });
            ask(questions, Some(ROUND_ONE))
        }
        "multi_round" => match (state, given("step1"), given("step2")) {
            (Some(ROUND_ONE), Some(_), _) => {
                let color = json!({"color": {"type": "string"}});
                let question = elicitation("Step 2: What is your favorite color?", color);
                ask(json!({"step2": question}), Some(ROUND_TWO))
            }
            (Some(ROUND_TWO), _, Some(answer)) => {
                let color = answer["content"]["color"].as_str();
                done(format!("Somebody likes {}.", color.unwrap_or("?")))
            }
            _ => {
                let question = name_question("Step 1: What is your name?");
                ask(json!({"step1": question}), Some(ROUND_ONE))
            }
        },
        "capabilities" | "capability_check" => {
            let mut questions = json!({});
            if has.sampling.is_some() {
                questions["sample"] = sampling("Say hello");
            }
            if has.elicitation.is_some() {
                questions["ask"] = name_question("What is your name?");
            }
            ask(questions, Some(ROUND_ONE))
        }
        _ => Err(ErrorData::invalid_params(
            format!("Unknown tool: {name}"),
            None,
        )),
    }
}

pub(super) fn resources() -> Value {
    json!([
        {"uri": "test://static-text", "name": "static-text", "mimeType": "text/plain"},
        {"uri": "test://static-binary", "name": "static-binary", "mimeType": "image/png"},
        {"uri": "test://watched-resource", "name": "watched-resource", "mimeType": "text/plain"},
    ])
}

pub(super) fn resource(uri: &str) -> Option<Value> {
    let plain = |text: &str| json!({"uri": uri, "mimeType": "text/plain", "text": text});
    Some(match uri {
        "test://static-text" => plain("This is the content of the static text resource."),
        "test://watched-resource" => plain("Watched resource content"),
        "test://static-binary" => json!({"uri": uri, "mimeType": "image/png", "blob": IMAGE}),
        _ => {
            let id = uri
                .strip_prefix("test://template/")?
                .strip_suffix("/data")?;
            let data =
                json!({"id": id, "templateTest": true, "data": format!("Data for ID: {id}")});
            json!({"uri": uri, "mimeType": "application/json", "text": data.to_string()})
        }
    })
}

pub(super) fn prompts() -> Value {
    let argument = |name: &str| json!({"name": name, "description": name, "required": true});
    let prompt = |name: &str, arguments: Value| json!({"name": name, "description": name, "arguments": arguments});
    json!([
        prompt("test_simple_prompt", json!([])),
        prompt(
            "test_prompt_with_arguments",
            json!([argument("arg1"), argument("arg2")])
        ),
        prompt(
            "test_prompt_with_embedded_resource",
            json!([argument("resourceUri")])
        ),
        prompt("test_prompt_with_image", json!([])),
        prompt("test_input_required_result_prompt", json!([])),
    ])
}

/// One round of a prompt.
pub(super) fn prompt(name: &str, arguments: &Value, responses: &Value) -> Result<Step, ErrorData> {
    let word = |name: &str| arguments[name].as_str().unwrap_or_default();
    let says = |content: Value| json!({"role": "user", "content": content});
    let said = |text: &str| json!({"type": "text", "text": text});
    let messages = match name {
        "test_simple_prompt" => json!([says(said("This is a simple prompt for testing."))]),
        "test_prompt_with_arguments" => {
            let (one, two) = (word("arg1"), word("arg2"));
            json!([says(said(&format!(
                "Prompt with arguments: arg1='{one}', arg2='{two}'"
            )))])
        }
        "test_prompt_with_embedded_resource" => {
            let text = "Embedded resource content for testing.";
            json!([
                says(embedded(word("resourceUri"), "text/plain", text)),
                says(said("Please process the embedded resource above.")),
            ])
        }
        "test_prompt_with_image" => {
            json!([says(image()), says(said("Please analyze the image above."))])
        }
        "test_input_required_result_prompt" => {
            let Some(answer) = responses.get("user_context") else {
                let context = json!({"context": {"type": "string"}});
                let question = elicitation("What context should the prompt use?", context);
                return Ok(Step::Ask(json!({"user_context": question}), None));
            };
            let context = answer["content"]["context"].as_str().unwrap_or("?");
            json!([says(said(&format!("Use the following context: {context}")))])
        }
        _ => {
            let words = format!("Unknown prompt: {name}");
            return Err(ErrorData::invalid_params(words, None));
        }
    };
    Ok(Step::Done(json!({"messages": messages})))
}
