//! Random messages, and random mutations of their bytes.

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, TestRunner};

/// How many messages are generated; the environment may set a higher number.
fn count() -> usize {
    let asked = std::env::var("HOSTILE_MESSAGES").ok();
    asked.map_or(20_000, |asked| asked.parse().expect("a number"))
}

fn pick(from: &'static [&'static str]) -> impl Strategy<Value = String> {
    prop::sample::select(from).prop_map(str::to_owned)
}

/// `right` most of the time.
fn mostly(
    right: impl Strategy<Value = String> + 'static,
    wrong: &'static [&'static str],
) -> BoxedStrategy<String> {
    prop_oneof![12 => right, 1 => pick(wrong)].boxed()
}

const METHODS: &[&str] = &[
    "\"tools/call\"",
    "\"tools/list\"",
    "\"prompts/get\"",
    "\"resources/read\"",
    "\"resources/subscribe\"",
    "\"ping\"",
    "\"notifications/cancelled\"",
    "\"notifications/progress\"",
    "\"tasks/get\"",
    "\"tasks/cancel\"",
    "\"logging/setLevel\"",
    "\"completion/complete\"",
    "\"tools\\/call\"",
    "\"\\u0074ools/call\"",
    "\"tools/call\\u0000\"",
    "\"\"",
    "\"x\u{2028}y\"",
    "\"\u{1f600}\"",
];

const VALUES: &[&str] = &[
    "\"a\"",
    "\"b\"",
    "\"\"",
    "1",
    "-7",
    "0",
    "7",
    "\"7\"",
    "null",
    "true",
    "1.5",
    "1e2",
    "-0",
    "{}",
    "[]",
    "9007199254740991",
    "9007199254740992",
    "\"\\u0061\"",
    "\"\u{85}\u{2028}\u{2029}\"",
    "\"\\ud83d\\ude00\"",
    "\"\\ud800\"",
    "\"\u{e9}\"",
    "\"\\n\\r\"",
    "{\"name\":\"in\",\"name\":\"out\"}",
    "[1,\"two\",{\"method\":\"x\"}]",
    "\"\\\"\"",
    "\"{\\\"a\\\":1}\"",
    "1E400",
    "{\"progressToken\":9}",
    "\"\\u2028\"",
    "\"\\u0000\"",
    "12345678901234567890",
    "\"\u{feff}\"",
];

const PARAM_KEYS: &[&str] = &[
    "name",
    "uri",
    "requestId",
    "taskId",
    "level",
    "arguments",
    "cursor",
    "ref",
    "progressToken",
    "x",
];

const ODD_KEYS: &[&str] = &[
    "Name",
    "NAME",
    "n\\u0061me",
    "na_me",
    "URI",
    "u\u{131}ri",
    "request_id",
    "RequestId",
    "reque\u{17f}tId",
    "task_id",
    "ta\u{17f}kId",
    "ta\u{212a}id",
    "meta",
    "_META",
    "_meta",
    "name\\u0000",
    "\u{ff4e}ame",
    "",
    "__proto__",
    "\\ud800",
    "level",
    "na-me",
    "_name",
];

fn member(key: &str, value: &str, space: &str) -> String {
    format!("{space}\"{key}\"{space}:{space}{value}{space}")
}

fn space() -> impl Strategy<Value = String> {
    prop_oneof![20 => Just(String::new()), 1 => pick(&[" ", "\t", "\r", " \r\t", "\u{85}", "\u{a0}", "\u{2028}", "\u{c}"])]
}

fn meta() -> impl Strategy<Value = String> {
    let key = mostly(
        Just("progressToken".to_owned()),
        &[
            "progress_token",
            "ProgressToken",
            "progre\u{17f}\u{17f}Token",
            "progressTo\\u006ben",
            "progressToken\\u0000",
            "x",
        ],
    );
    let value = mostly(
        pick(&["1", "\"t\"", "-3", "\"\\u0074\"", "\"\u{2028}\""]),
        VALUES,
    );
    prop::collection::vec((key, value, space()), 0..3).prop_map(|members| {
        let members: Vec<String> = members
            .iter()
            .map(|(key, value, space)| member(key, value, space))
            .collect();
        format!("{{{}}}", members.join(","))
    })
}

fn params() -> impl Strategy<Value = String> {
    let key = mostly(pick(PARAM_KEYS), ODD_KEYS);
    let plain =
        (key, pick(VALUES), space()).prop_map(|(key, value, space)| member(&key, &value, &space));
    let meta = (
        mostly(Just("_meta".to_owned()), &["meta", "_Meta", "\\u005fmeta"]),
        meta(),
        space(),
    )
        .prop_map(|(key, value, space)| member(&key, &value, &space));
    let object = prop::collection::vec(prop_oneof![5 => plain, 1 => meta], 0..5)
        .prop_map(|members| format!("{{{}}}", members.join(",")));
    mostly(object, &["[]", "[{\"name\":\"a\"}]", "null", "1", "{}"])
}

fn message() -> impl Strategy<Value = String> {
    let top =
        |right: &'static str, wrong: &'static [&'static str]| mostly(Just(right.to_owned()), wrong);
    let jsonrpc = (
        top("jsonrpc", &["Jsonrpc", "j\\u0073onrpc", "j\u{17f}onrpc"]),
        mostly(
            Just("\"2.0\"".to_owned()),
            &["\"2\\u002e0\"", "2.0", "\"1.0\""],
        ),
    );
    let id = (
        top("id", &["ID", "\\u0069d", "Id"]),
        mostly(
            pick(&["1", "0", "-5", "\"i\"", "\"\\u0069\"", "\"\u{2028}\"", "-0"]),
            VALUES,
        ),
    );
    let method = (
        top("method", &["Method", "m\\u0065thod", "METHOD"]),
        mostly(pick(METHODS), VALUES),
    );
    let params = (
        top("params", &["Params", "param\u{17f}", "p\\u0061rams"]),
        params(),
    );
    let other = (
        pick(&["x", "auth", "", "id\\u0000", "Result", "error", "method"]),
        pick(VALUES),
    );
    let some =
        |part: BoxedStrategy<(String, String)>, weight: f64| prop::option::weighted(weight, part);
    (
        some(jsonrpc.boxed(), 0.99),
        some(id.boxed(), 0.8),
        some(method.boxed(), 0.99),
        some(params.boxed(), 0.9),
        some(other.boxed(), 0.1),
        space(),
    )
        .prop_flat_map(|(a, b, c, d, e, space)| {
            let members: Vec<(String, String)> = [a, b, c, d, e].into_iter().flatten().collect();
            (Just(members).prop_shuffle(), Just(space))
        })
        .prop_map(|(members, space)| {
            let members: Vec<String> = members
                .iter()
                .map(|(key, value)| member(key, value, &space))
                .collect();
            format!("{space}{{{}}}{space}", members.join(","))
        })
}

/// A mutation of a message's bytes.
#[derive(Clone, Debug)]
enum Mutation {
    Insert(prop::sample::Index, &'static str),
    Overwrite(prop::sample::Index, u8),
    Delete(prop::sample::Index),
    /// Duplicates a range.
    Double(prop::sample::Index, usize),
    /// Flips the case of a letter, if it is one.
    Case(prop::sample::Index),
    /// Replaces a letter with its escape.
    Escape(prop::sample::Index),
}

fn mutation() -> impl Strategy<Value = Mutation> {
    const PIECES: &[&str] = &[
        " ",
        "\t",
        "\r",
        "\r\n",
        "\0",
        "\u{b}",
        "\u{1e}",
        "\u{7f}",
        "\u{85}",
        "\u{2028}",
        "\u{2029}",
        "\u{feff}",
        "\"",
        "\\",
        ",",
        ":",
        "{",
        "}",
        "[",
        "]",
        "\\u2028",
        "\\u000a",
        "\\\"",
        "/**/",
        "//",
        "NaN",
        "0",
        "-",
        "\\u0000",
        "\u{17f}",
        "\u{212a}",
        "_",
        "\"name\":\"z\",",
        "\"method\":\"z\",",
        "\"id\":77,",
    ];
    let at = any::<prop::sample::Index>;
    prop_oneof![
        4 => (at(), prop::sample::select(PIECES)).prop_map(|(at, piece)| Mutation::Insert(at, piece)),
        1 => (at(), any::<u8>()).prop_map(|(at, byte)| Mutation::Overwrite(at, byte)),
        1 => at().prop_map(Mutation::Delete),
        1 => (at(), 1usize..30).prop_map(|(at, length)| Mutation::Double(at, length)),
        3 => at().prop_map(Mutation::Case),
        3 => at().prop_map(Mutation::Escape),
    ]
}

fn mutate(line: &mut Vec<u8>, mutation: &Mutation) {
    if line.is_empty() {
        return;
    }
    match mutation {
        Mutation::Insert(at, piece) => {
            let at = at.index(line.len());
            line.splice(at..at, piece.bytes());
        }
        Mutation::Overwrite(at, byte) => {
            let at = at.index(line.len());
            line[at] = *byte;
        }
        Mutation::Delete(at) => drop(line.remove(at.index(line.len()))),
        Mutation::Double(at, length) => {
            let at = at.index(line.len());
            let end = (at + length).min(line.len());
            let stretch = line[at..end].to_vec();
            line.splice(at..at, stretch);
        }
        Mutation::Case(at) => {
            let at = at.index(line.len());
            if line[at].is_ascii_alphabetic() {
                line[at] ^= 0x20;
            }
        }
        Mutation::Escape(at) => {
            let at = at.index(line.len());
            let byte = line[at];
            if byte.is_ascii_alphabetic() {
                line.splice(at..=at, format!("\\u{byte:04x}").into_bytes());
            }
        }
    }
}

/// Random messages.
pub fn lines() -> Vec<Vec<u8>> {
    let strategy = (message(), prop::collection::vec(mutation(), 0..2));
    let mut runner = TestRunner::new(Config::default());
    let make = || {
        let tree = strategy.new_tree(&mut runner).expect("a message");
        let (text, mutations) = tree.current();
        let mut line = text.into_bytes();
        for mutation in &mutations {
            mutate(&mut line, mutation);
        }
        // The transport would have split it.
        line.retain(|byte| *byte != b'\n');
        line
    };
    std::iter::repeat_with(make).take(count()).collect()
}
