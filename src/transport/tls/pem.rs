//! Certificates and keys from files, and what is wrong with these.

use super::Identity;
use crate::utils::text;
use std::path::Path;
use tokio_rustls::rustls::crypto::CryptoProvider;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::sign::CertifiedKey;
use tokio_rustls::rustls::{Error, InconsistentKeys, RootCertStore};

/// What is wrong with a TLS setting, and what to do.
#[derive(Debug, thiserror::Error)]
#[error("{flag} {value}: {problem}")]
pub struct FileError {
    /// The flag it came with, or could have come with.
    flag: &'static str,
    /// What was given.
    value: String,
    problem: String,
}

impl FileError {
    pub(super) fn new(flag: &'static str, value: &Path, problem: String) -> Self {
        Self {
            flag,
            value: value.display().to_string(),
            problem,
        }
    }

    pub(super) fn tls(flag: &'static str, value: &Path, err: &Error) -> Self {
        Self::new(flag, value, format!("not usable for TLS: {err}"))
    }
}

/// The chain and the key, which have to fit.
pub(super) fn certified_key(
    identity: Identity<'_>,
    provider: &CryptoProvider,
) -> Result<CertifiedKey, FileError> {
    let file = identity.certificate;
    let chain = certificates("--tls-cert", file)?;
    let key = private_key(identity.key)?;
    CertifiedKey::from_der(chain, key, provider).map_err(|err| match err {
        Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => FileError::new(
            "--tls-key",
            identity.key,
            format!(
                "this key does not belong to the first certificate in {}; take the key it was made with, and put the server's own certificate first",
                file.display()
            ),
        ),
        Error::InvalidCertificate(err) => FileError::new(
            "--tls-cert",
            file,
            format!("the first certificate cannot be read ({err}); make it again"),
        ),
        err => FileError::new(
            "--tls-key",
            identity.key,
            format!("this key cannot be used ({err}); use an ECDSA, Ed25519 or RSA key"),
        ),
    })
}

/// Until when the first certificate in a file is valid, in seconds since 1970; `None` where it does not
/// say so in a form that is known.
///
/// # Errors
/// What is wrong with the file.
pub fn not_after_of(file: &Path) -> Result<Option<i64>, FileError> {
    let chain = certificates("--tls-cert", file)?;
    let own = chain.first();
    Ok(own.and_then(|own| super::validity::not_after(own)))
}

/// The authorities in a file.
pub(super) fn roots(flag: &'static str, file: &Path) -> Result<RootCertStore, FileError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(flag, file)? {
        roots.add(certificate).map_err(|err| {
            let problem = format!("a certificate in it cannot be read ({err}); make it again");
            FileError::new(flag, file, problem)
        })?;
    }
    Ok(roots)
}

/// The authorities that this machine trusts; `SSL_CERT_FILE` and `SSL_CERT_DIR` replace them.
pub(super) fn system_roots() -> Result<RootCertStore, FileError> {
    let found = rustls_native_certs::load_native_certs();
    for err in &found.errors {
        tracing::debug!(%err, "could not read some of the system's certificate authorities");
    }
    let mut roots = RootCertStore::empty();
    let (added, ignored) = roots.add_parsable_certificates(found.certs);
    tracing::debug!(added, ignored, "read the system's certificate authorities");
    if roots.is_empty() {
        return Err(FileError::new(
            "--tls-ca",
            Path::new("FILE"),
            "is needed, since no certificate authorities are installed on this machine".to_owned(),
        ));
    }
    Ok(roots)
}

fn certificates(
    flag: &'static str,
    file: &Path,
) -> Result<Vec<CertificateDer<'static>>, FileError> {
    let text = read(flag, file)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    let problem = match found {
        Ok(chain) if !chain.is_empty() => return Ok(chain),
        Ok(_) => "no certificate in it".to_owned(),
        Err(err) => format!("not a certificate ({err})"),
    };
    Err(FileError::new(
        flag,
        file,
        format!("{problem}; give a PEM file with '-----BEGIN CERTIFICATE-----'"),
    ))
}

fn private_key(file: &Path) -> Result<PrivateKeyDer<'static>, FileError> {
    let flag = "--tls-key";
    let text = read(flag, file)?;
    PrivateKeyDer::from_pem_slice(&text).map_err(|_| {
        let encrypted = b"ENCRYPTED";
        let problem = if text.windows(encrypted.len()).any(|part| part == encrypted) {
            "the key is encrypted; decrypt it, and let only the server's user read it"
        } else {
            "no private key in it; give a PEM file with '-----BEGIN PRIVATE KEY-----'"
        };
        FileError::new(flag, file, problem.to_owned())
    })
}

fn read(flag: &'static str, file: &Path) -> Result<Vec<u8>, FileError> {
    text::read_bytes(file).map_err(|err| {
        let problem = format!("could not read it: {err}; check the path and who may read it");
        FileError::new(flag, file, problem)
    })
}
