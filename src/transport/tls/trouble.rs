//! What is wrong between a client and a server that will not go away by itself, in words.

use super::plain::is_mismatch;
use crate::transport::foreign::WANTS_TLS;
use std::io;
use std::time::Duration;
use tokio_rustls::rustls::{AlertDescription, CertificateError, Error};

/// For a client: what is wrong with TLS, and the remedy; `None` if it is another error, and a retry
/// may help.
#[must_use]
pub fn explain(err: &io::Error) -> Option<String> {
    if is_mismatch(err) {
        return Some(WANTS_TLS.to_owned());
    }
    match err.get_ref()?.downcast_ref::<Error>()? {
        // Only what is no TLS at all looks like that.
        Error::InvalidMessage(_) => Some(
            "the server does not speak TLS on this port; leave out --tls, or use ws://, or http:// over HTTP".to_owned(),
        ),
        Error::InvalidCertificate(err) => Some(about_certificate(err)),
        Error::AlertReceived(alert) => about_alert(*alert),
        err @ Error::PeerIncompatible(_) => Some(format!(
            "no version of TLS and no cipher that both ends know: {err}"
        )),
        _ => None,
    }
}

/// Whether the authority of the server's certificate is not trusted here.
#[must_use]
pub fn is_unknown_authority(err: &io::Error) -> bool {
    let inner = err.get_ref().and_then(|inner| inner.downcast_ref());
    matches!(inner, Some(Error::InvalidCertificate(err)) if is_from_stranger(err))
}

/// An authority that is trusted here may have the name of the certificate's issuer, with another key,
/// even of another kind; the signature does not fit that key then.
fn is_from_stranger(err: &CertificateError) -> bool {
    matches!(
        err,
        CertificateError::UnknownIssuer
            | CertificateError::BadSignature
            | CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext { .. }
    )
}

/// Whether the far end speaks no TLS at all.
#[must_use]
pub fn is_plain(err: &io::Error) -> bool {
    let inner = err.get_ref().and_then(|inner| inner.downcast_ref());
    matches!(inner, Some(Error::InvalidMessage(_)))
}

fn about_certificate(err: &CertificateError) -> String {
    match err {
        err if is_from_stranger(err) => "the server's certificate comes from an authority that is not trusted here; name the file with the authority's certificate by --tls-ca".to_owned(),
        CertificateError::NotValidForName => "the server's certificate is for another name; use that name in --host or --url".to_owned(),
        CertificateError::NotValidForNameContext { expected, presented } => format!(
            "the server's certificate is not for '{}' but for {}; use a name that it is for in --host or --url",
            expected.to_str(),
            names(presented),
        ),
        CertificateError::Expired => "the server's certificate has expired; renew it".to_owned(),
        CertificateError::ExpiredContext { time, not_after } => format!(
            "the server's certificate has expired {} ago; renew it, or set this machine's clock",
            roughly(time.as_secs().saturating_sub(not_after.as_secs())),
        ),
        CertificateError::NotValidYet => "the server's certificate is not valid yet; set this machine's clock".to_owned(),
        CertificateError::NotValidYetContext { time, not_before } => format!(
            "the server's certificate is not valid for another {}; set this machine's clock, or make the certificate again",
            roughly(not_before.as_secs().saturating_sub(time.as_secs())),
        ),
        CertificateError::Other(other)
            if matches!(other.0.downcast_ref(), Some(webpki::Error::CaUsedAsEndEntity)) =>
        {
            "the server shows the certificate of an authority (CA:TRUE) as its own; make it one with basicConstraints=CA:FALSE".to_owned()
        }
        err => format!("the server's certificate {}; give the server another one", flaw(err)),
    }
}

/// What is wrong with a certificate, whatever its issuer.
fn flaw(err: &CertificateError) -> &'static str {
    match err {
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            "is not for servers (its extendedKeyUsage lacks serverAuth)"
        }
        CertificateError::UnsupportedSignatureAlgorithmContext { .. } => {
            "is signed by an algorithm that is not accepted, such as SHA-1"
        }
        CertificateError::UnhandledCriticalExtension => {
            "has a critical extension that is not supported"
        }
        CertificateError::Revoked => "has been revoked",
        _ => "is not valid",
    }
}

/// The alert of the server about us.
fn about_alert(alert: AlertDescription) -> Option<String> {
    let remedy = match alert {
        AlertDescription::CertificateRequired => {
            return Some(
                "the server wants a certificate of this client; give one with --tls-cert and --tls-key"
                    .to_owned(),
            );
        }
        AlertDescription::UnknownCA
        | AlertDescription::BadCertificate
        | AlertDescription::CertificateExpired
        | AlertDescription::CertificateRevoked
        | AlertDescription::CertificateUnknown
        | AlertDescription::UnsupportedCertificate
        | AlertDescription::AccessDenied
        | AlertDescription::DecryptError => {
            "the server does not accept this client's certificate (--tls-cert)"
        }
        AlertDescription::HandshakeFailure
        | AlertDescription::ProtocolVersion
        | AlertDescription::InsufficientSecurity
        | AlertDescription::NoApplicationProtocol
        | AlertDescription::UnrecognisedName => "the server refuses TLS with this client",
        _ => return None,
    };
    Some(format!("{remedy}: it says {alert:?}"))
}

fn names(presented: &[String]) -> String {
    // rustls shows them as `DnsName("a.example")`.
    let inner = |name: &String| match name.split('"').nth(1) {
        Some(inner) => format!("'{inner}'"),
        None => format!("'{name}'"),
    };
    let names: Vec<String> = presented.iter().map(inner).collect();
    match names.join(", ") {
        none if none.is_empty() => "no name at all (a subjectAltName is needed)".to_owned(),
        names => names,
    }
}

/// Days where there are some, else to the second.
fn roughly(seconds: u64) -> String {
    const DAY: u64 = 24 * 3600;
    match seconds / DAY {
        0 => humantime::format_duration(Duration::from_secs(seconds)).to_string(),
        1 => "1 day".to_owned(),
        days => format!("{days} days"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bug: an authority of the same name with another type of key, and every rare fault, was shown as Rust's
    /// Debug output.
    #[test]
    fn a_certificate_is_described_in_words() {
        let other_kind_of_key =
            CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext {
                signature_algorithm_id: vec![6, 8, 42],
                public_key_algorithm_id: vec![6, 9, 42],
            };
        let old_algorithm = CertificateError::UnsupportedSignatureAlgorithmContext {
            signature_algorithm_id: vec![6, 9, 42],
            supported_algorithms: Vec::new(),
        };
        for (err, says, is_unknown) in [
            (CertificateError::UnknownIssuer, "--tls-ca", true),
            (CertificateError::BadSignature, "--tls-ca", true),
            (other_kind_of_key, "--tls-ca", true),
            (old_algorithm, "such as SHA-1", false),
            (CertificateError::InvalidPurpose, "serverAuth", false),
            (CertificateError::BadEncoding, "is not valid", false),
        ] {
            let err = io::Error::other(Error::InvalidCertificate(err));
            assert_eq!(is_unknown_authority(&err), is_unknown, "{err}");
            let text = explain(&err).unwrap();
            assert!(text.contains(says) && !text.contains('['), "{text}");
        }
    }
}
