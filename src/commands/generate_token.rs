//! `generate-token`.

use super::{Failure, print, read_secrets};
use crate::auth::{self, Claims};
use crate::cli::GenerateTokenArgs;
use crate::utils::secret::Secret;
use std::io::Write;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The size of a secret of `--auto-secret`, in bytes.
const AUTO_SECRET: usize = 32;

/// Year 9999: the last second that dates are written for, and beyond every sensible expiry.
const LAST_SECOND: u64 = 253_402_300_799;

pub(super) fn run(args: &GenerateTokenArgs) -> Result<(), Failure> {
    let secret = if args.auto_secret {
        let secret = auth::generate_secret(AUTO_SECRET);
        if args.quiet {
            let _nobody = writeln!(std::io::stderr(), "Generated secret: {}", secret.expose());
        } else {
            print(&format!("Generated secret: {}\n", secret.expose()))?;
        }
        secret
    } else {
        read_secret(args)?
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
    let exp = now
        .saturating_add(args.expires_in)
        .as_secs()
        .min(LAST_SECOND);
    let roles = args.roles.as_deref().map(|roles| {
        let roles = roles.iter().map(|role| role.trim().to_owned());
        roles.filter(|role| !role.is_empty()).collect()
    });
    let claims = Claims {
        user: args.user.clone(),
        roles,
        iss: args.issuer.clone(),
        aud: args.audience.clone(),
        jti: auth::generate_id(),
        iat: now.as_secs(),
        exp,
    };
    let token = auth::issue(&secret, &claims)?;
    if claims.user.is_none() && claims.roles.is_none() && !args.auto_secret {
        let note =
            "note: this token is for nobody in particular and has no roles: use --user and --roles";
        let _nobody = writeln!(std::io::stderr(), "{note}");
    }
    if args.quiet {
        print(&format!("{token}\n"))?;
        return Ok(());
    }
    print(&describe(&token, claims))?;
    Ok(())
}

/// The token and its claims, for people.
fn describe(token: &str, claims: Claims) -> String {
    let user = claims.user.as_deref().unwrap_or("none");
    let roles = claims.roles.filter(|roles: &Vec<String>| !roles.is_empty());
    let roles = roles.map_or_else(|| "none".to_owned(), |roles| roles.join(", "));
    let expires = humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_secs(claims.exp));
    let mut text = format!(
        "Generated JWT token:\n{token}\n\nToken details:\n- User: {user}\n- Roles: {roles}\n- Expires: {expires}\n- ID: {}\n",
        claims.jti
    );
    for (name, value) in [("Issuer", claims.iss), ("Audience", claims.aud)] {
        if let Some(value) = value {
            text += &format!("- {name}: {value}\n");
        }
    }
    text
}

/// Several are for rotation: the first is the newest.
fn read_secret(args: &GenerateTokenArgs) -> Result<Secret, Failure> {
    let secrets = read_secrets(&args.secret)?;
    let first = secrets.and_then(|secrets| secrets.into_iter().next());
    first.ok_or_else(|| {
        Failure::new("no secret to sign with; set MCP_REMOTE_JWT_SECRET, or use --jwt-secret-file, --jwt-secret or --auto-secret")
    })
}
