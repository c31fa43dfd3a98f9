use super::*;
use proptest::prelude::*;

/// The events when the stream arrives in these pieces; the last entry is an error, if any.
fn decode(pieces: &[&[u8]], limit: usize) -> (Vec<Event>, Option<TooLong>) {
    let mut decoder = Decoder::new(limit);
    let mut events = Vec::new();
    for mut piece in pieces.iter().copied() {
        while !piece.is_empty() {
            match decoder.decode(&mut piece) {
                Ok(Some(event)) => events.push(event),
                Ok(None) => assert!(piece.is_empty(), "stopped in the middle"),
                Err(err) => return (events, Some(err)),
            }
        }
    }
    (events, None)
}

fn whole(text: &str) -> Vec<Event> {
    let (events, err) = decode(&[text.as_bytes()], 1 << 20);
    assert_eq!(err, None);
    events
}

fn message(data: &str) -> Event {
    Event {
        data: Bytes::copy_from_slice(data.as_bytes()),
        ..Event::default()
    }
}

/// The examples of the standard, as MCP uses them.
#[test]
fn events_are_read_as_the_standard_says() {
    let id = |id: &str| Some(id.to_owned());
    let cases: &[(&str, Vec<Event>)] = &[
        ("", vec![]),
        ("data: a\n\n", vec![message("a")]),
        ("data: a", vec![]),
        ("data: a\n", vec![]),
        (
            "data: YHOO\ndata: +2\ndata: 10\n\n",
            vec![message("YHOO\n+2\n10")],
        ),
        ("data\n\ndata\ndata\n\ndata:", vec![message("\n")]),
        (
            "data:test\n\ndata: test\n\n",
            vec![message("test"), message("test")],
        ),
        ("data:  two\n\n", vec![message(" two")]),
        ("\u{feff}data: a\n\n", vec![message("a")]),
        ("\n\u{feff}data: a\n\n", vec![]),
        (": a comment\n\n:\r\n\r\n", vec![]),
        (
            "data: a\r\rdata: b\r\n\r\ndata: c\n\r\n",
            vec![message("a"), message("b"), message("c")],
        ),
        ("other: x\nDATA: y\nnonsense\n\n", vec![]),
        (
            "id: 1\ndata:\n\n",
            vec![Event {
                id: id("1"),
                ..Event::default()
            }],
        ),
        (
            "event: message\nid: a:b\nretry: 500\ndata: {}\n\nid\ndata: x\n\n",
            vec![
                Event {
                    name: "message".to_owned(),
                    data: Bytes::from_static(b"{}"),
                    id: id("a:b"),
                    retry: Some(Duration::from_millis(500)),
                },
                Event {
                    id: id(""),
                    ..message("x")
                },
            ],
        ),
        ("id: a\0b\ndata: x\n\n", vec![message("x")]),
        (
            "id: \u{e9}\ndata: x\n\n",
            vec![Event {
                id: id(""),
                ..message("x")
            }],
        ),
        (
            "retry: 5s\nretry:\nretry: -1\ndata: x\n\n",
            vec![message("x")],
        ),
        (
            "retry: 99999999999999999999999\n\n",
            vec![Event {
                retry: Some(Duration::from_millis(u64::MAX)),
                ..Event::default()
            }],
        ),
        (
            "event: endpoint\ndata: /messages?x=1\n\n",
            vec![Event {
                name: "endpoint".to_owned(),
                ..message("/messages?x=1")
            }],
        ),
    ];
    for (text, events) in cases {
        assert_eq!(whole(text), *events, "{text:?}");
    }
}

#[test]
fn messages_are_told_from_other_events() {
    let is_message = |text: &str| whole(text).iter().all(Event::is_message);
    assert!(is_message("data: x\n\n") && is_message("event: message\ndata: x\n\n"));
    assert!(!is_message("event: ping\ndata: x\n\n") && !is_message("id: 1\ndata:\n\n"));
}

#[test]
fn what_is_too_long_ends_the_stream() {
    let limit = 10;
    let end = Some(TooLong { limit });
    assert_eq!(
        decode(&[b"data: 1234\n\n"], limit),
        (vec![message("1234")], None)
    );
    assert_eq!(decode(&[b"data: 12345\n\n"], limit), (vec![], end));
    assert_eq!(
        decode(&[b": no end of", b" a comment"], limit),
        (vec![], end)
    );
    assert_eq!(
        decode(&[b"data:123\ndata:123\ndata:123\n\n"], limit),
        (vec![], end)
    );
    let long_id = format!("id: {}\ndata: x\n\n", "1".repeat(MAX_EVENT_ID + 1));
    assert_eq!(whole(&long_id)[0].id.as_deref(), Some(""));
    let long_name = format!("event: {}\ndata: x\n\n", "\u{e9}".repeat(MAX_NAME));
    assert_eq!(whole(&long_name)[0].name.chars().count(), MAX_NAME / 2);
}

/// As the standard describes it, with the whole stream available.
fn reference(text: &str) -> Vec<Event> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let text = text.replace("\r\n", "\n").replace('\r', "\n");
    let mut lines: Vec<&str> = text.split('\n').collect();
    lines.pop();
    let (mut events, mut event, mut data) = (Vec::new(), Event::default(), Vec::new());
    for line in lines {
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "" if line.is_empty() => {
                event.data = data.join("\n").into();
                data.clear();
                let event = std::mem::take(&mut event);
                if !event.data.is_empty() || event.id.is_some() || event.retry.is_some() {
                    events.push(event);
                }
            }
            "data" => data.push(value.to_owned()),
            "event" => event.name = value.to_owned(),
            "id" if !value.contains('\0') => event.id = Some(value.to_owned()),
            "retry" if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) => {
                event.retry = Some(Duration::from_millis(value.parse().unwrap_or(u64::MAX)));
            }
            _ => {}
        }
    }
    events
}

fn stream() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "data",
        "data:",
        "data: ",
        "id: ",
        "event:",
        "retry: ",
        ":",
        " ",
        "\n",
        "\r",
        "\r\n",
        "\n\n",
        "7",
        "x",
        "{\"a\":1}",
        "\u{feff}",
    ]);
    prop::collection::vec(piece, 0..40)
        .prop_map(|pieces| pieces.concat())
        .prop_filter("an id that fits into a header", |text| {
            !text.contains("id: \u{feff}")
        })
}

proptest! {
    #[test]
    fn any_split_gives_the_events_of_the_whole(text in stream(), cuts in prop::collection::vec(0..200_usize, 0..20)) {
        let bytes = text.as_bytes();
        let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(bytes.len())).collect();
        cuts.extend([0, bytes.len()]);
        cuts.sort_unstable();
        let pieces: Vec<&[u8]> = cuts.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect();
        let (events, err) = decode(&pieces, 1 << 20);
        prop_assert_eq!(err, None);
        prop_assert_eq!(&events, &whole(&text));
        let has_odd_id = events.iter().any(|event| event.id.as_deref() == Some(""));
        if !has_odd_id {
            prop_assert_eq!(events, reference(&text));
        }
    }

    #[test]
    fn what_is_kept_is_bounded(bytes in prop::collection::vec(any::<u8>(), 0..300), limit in 0..40_usize) {
        let mut decoder = Decoder::new(limit);
        let mut input = &bytes[..];
        while !input.is_empty() {
            match decoder.decode(&mut input) {
                Ok(Some(event)) => prop_assert!(event.data.len() <= limit),
                Ok(None) => {}
                Err(_) => break,
            }
            prop_assert!(decoder.line.len() + decoder.data.len() <= limit + 1);
        }
    }
}
