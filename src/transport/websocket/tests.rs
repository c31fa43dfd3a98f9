use super::*;

#[test]
fn what_is_masked_in_parts_is_masked_alike() {
    let plain: Vec<u8> = (0..=255).collect();
    let key = [1, 2, 4, 8];
    let expected: Vec<u8> = plain
        .iter()
        .zip(key.iter().cycle())
        .map(|(a, b)| a ^ b)
        .collect();
    for cut in 0..plain.len() {
        let mut masked = plain.clone();
        let (first, second) = masked.split_at_mut(cut);
        let mut key = key;
        mask(first, key);
        key.rotate_left(cut % 4);
        mask(second, key);
        assert_eq!(masked, expected, "cut at {cut}");
    }
}

/// In virtual time.
#[tokio::test(start_paused = true)]
async fn a_peer_that_does_not_even_ping_is_gone() {
    let (near, far) = tokio::io::duplex(4096);
    let (server, client) = tokio::join!(
        WebSocket::accept(Box::new(far), Bytes::new(), None, 1000, &[]),
        WebSocket::connect(Box::new(near), "ws://localhost/", 1000),
    );
    let (mut reader, _writer) = server.unwrap().0.split(1000);
    let (_reader, mut writer) = client.unwrap().split(1000);
    let pings = async {
        for _ in 0..5 {
            tokio::time::sleep(SILENCE - Duration::from_secs(10)).await;
            writer.ping().await.unwrap();
        }
        Instant::now()
    };
    let silence = async {
        let read = reader.next().await;
        assert!(matches!(read, Err(LineError::Silent(SILENCE))), "{read:?}");
        Instant::now()
    };
    let (last, found) = tokio::join!(pings, silence);
    let silent = found - last;
    assert!(
        silent >= SILENCE && silent < SILENCE * 17 / 16 + Duration::from_secs(1),
        "{silent:?}"
    );
}
