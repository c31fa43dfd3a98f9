use super::*;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use tempfile::TempDir;

fn good_for(seconds: f64, name: &str) -> String {
    let exp = now().as_secs_f64() + seconds;
    let claims = format!(r#"{{"exp":{exp},"jti":"{name}"}}"#);
    let parts = [r#"{"alg":"HS256"}"#, &claims].map(|part| URL_SAFE_NO_PAD.encode(part));
    format!("{}.x", parts.join("."))
}

fn secret(text: &str) -> Secret {
    text.to_owned().into()
}

/// A token file and its reader.
fn file(text: &str) -> (TempDir, PathBuf, Tokens) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    std::fs::write(&file, text).unwrap();
    let source = TokenSource::File(file.clone());
    (folder, file, Tokens::new(Some(source), None))
}

async fn next(tokens: &Tokens) -> Result<String, String> {
    let token = tokens.for_connection().await?;
    Ok(token
        .map(|token| token.expose().to_owned())
        .unwrap_or_default())
}

#[tokio::test]
async fn a_file_is_read_again_for_each_connection() {
    let (_folder, file, tokens) = file(" one\n");
    assert_eq!(next(&tokens).await.as_deref(), Ok("one"));
    std::fs::write(&file, "\u{feff}two\r\n").unwrap();
    assert_eq!(next(&tokens).await.as_deref(), Ok("two"));
    // While it is being replaced, the previous token is used.
    for broken in ["", " \n"] {
        std::fs::write(&file, broken).unwrap();
        assert_eq!(next(&tokens).await.as_deref(), Ok("two"));
    }
    std::fs::remove_file(&file).unwrap();
    assert_eq!(next(&tokens).await.as_deref(), Ok("two"));
    std::fs::write(&file, "Bearer three").unwrap();
    assert!(next(&tokens).await.unwrap_err().contains("'Bearer'"));
}

#[tokio::test]
async fn a_refused_token_is_replaced_only_by_another_one() {
    let (_folder, file, tokens) = file("one");
    assert_eq!(next(&tokens).await.as_deref(), Ok("one"));
    assert!(tokens.after_refusal(&secret("one")).await.is_none());
    std::fs::write(&file, "\"two\"").unwrap();
    assert!(
        tokens.after_refusal(&secret("one")).await.is_none(),
        "it is no token"
    );
    std::fs::write(&file, "two").unwrap();
    let renewed = tokens.after_refusal(&secret("one")).await;
    assert_eq!(renewed.unwrap().expose(), "two");
    // Another request that was refused with the old token.
    std::fs::remove_file(&file).unwrap();
    let renewed = tokens.after_refusal(&secret("one")).await;
    assert_eq!(renewed.unwrap().expose(), "two");
    let fixed = Tokens::new(Some(TokenSource::Fixed(secret("one"))), Some(secret("one")));
    assert!(!fixed.can_change());
    assert!(fixed.after_refusal(&secret("one")).await.is_none());
}

#[tokio::test]
async fn a_command_runs_again_when_its_token_is_about_to_expire() {
    let folder = tempfile::tempdir().unwrap();
    let runs = folder.path().join("runs");
    let long = good_for(3600.0, "long");
    let command = |token: &str| {
        let command = format!("echo run >> {}; echo {token}", runs.display());
        Tokens::new(Some(TokenSource::Command(command)), None)
    };
    let counted = || {
        std::fs::read_to_string(&runs)
            .unwrap_or_default()
            .lines()
            .count()
    };
    for (token, expected) in [
        (long, 1),
        (good_for(5.0, "short"), 3),
        ("opaque".to_owned(), 1),
    ] {
        drop(std::fs::remove_file(&runs));
        let tokens = command(&token);
        for _ in 0..3 {
            assert_eq!(next(&tokens).await, Ok(token.clone()));
        }
        assert_eq!(counted(), expected, "{token}");
    }
    let tokens = Tokens::new(Some(TokenSource::Command("exit 3".to_owned())), None);
    let err = next(&tokens).await.unwrap_err();
    assert!(
        err.contains("--jwt-token-command: it ended with exit status: 3"),
        "{err}"
    );
}

/// In real time: the clock of a token is that of the machine.
#[tokio::test]
async fn a_newer_token_is_found_before_the_end_of_the_old_one() {
    let (_folder, file, tokens) = file(&good_for(2.0, "old"));
    let old = next(&tokens).await.unwrap();
    // One that is valid for less time is no better.
    std::fs::write(&file, good_for(1.0, "worse")).unwrap();
    let early = tokio::time::timeout(Duration::from_millis(500), tokens.renewed()).await;
    assert!(early.is_err(), "there is time left");
    let new = good_for(3600.0, "new");
    std::fs::write(&file, &new).unwrap();
    let begun = std::time::Instant::now();
    tokens.renewed().await;
    assert!(begun.elapsed() < Duration::from_secs(2));
    assert_eq!(next(&tokens).await, Ok(new));
    assert!(inspect(&secret(&old)).is_ok());
}

#[tokio::test(start_paused = true)]
async fn all_that_wait_get_the_next_usable_token() {
    let (_folder, file, tokens) = file("one");
    assert_eq!(next(&tokens).await.as_deref(), Ok("one"));
    let one = secret("one");
    let waiting = async {
        tokio::join!(
            tokens.next(Some(&one), "x"),
            tokens.next(Some(&one), "x"),
            tokens.next(None, "x"),
        )
    };
    let mut waiting = std::pin::pin!(waiting);
    let day = Duration::from_secs(86_400);
    for unusable in ["one", "", "Bearer two"] {
        std::fs::write(&file, unusable).unwrap();
        let waited = tokio::time::timeout(day, &mut waiting).await;
        assert!(waited.is_err(), "{unusable}");
    }
    std::fs::write(&file, "two").unwrap();
    let waited = tokio::time::timeout(2 * MAX_PAUSE, &mut waiting).await;
    assert!(waited.is_ok());
    assert_eq!(next(&tokens).await.as_deref(), Ok("two"));
}
