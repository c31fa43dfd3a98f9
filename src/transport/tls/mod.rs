//! TLS under a transport: [`Acceptor`] for servers, [`Connector`] for clients, and errors if only
//! one end speaks it.

mod pem;
mod plain;
mod subject;
mod trouble;
mod validity;

pub use pem::FileError;
pub use pem::not_after_of;
pub use plain::{Mismatch, Plain, is_mismatch};
pub use subject::{Holder, Shown};
pub use trouble::{explain, is_plain, is_unknown_authority};

use super::BoxedStream;
use std::io;
use std::path::Path;
use std::sync::Arc;
use tokio::net::TcpStream;
use tokio_rustls::rustls::client::WebPkiServerVerifier;
use tokio_rustls::rustls::crypto::{CryptoProvider, aws_lc_rs};
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use tokio_rustls::rustls::sign::CertifiedKey;
use tokio_rustls::rustls::{self, ClientConfig, ServerConfig, SupportedProtocolVersion};
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// The first byte of every TLS connection: a handshake record. Neither JSON, nor a token, nor HTTP
/// begins with it.
const HANDSHAKE: u8 = 0x16;

/// The first byte of a TLS alert, which is what TLS servers answer to plain text.
const ALERT: u8 = 0x15;

const VERSIONS: &[&SupportedProtocolVersion] = &[&rustls::version::TLS13, &rustls::version::TLS12];

/// A certificate chain and its key, as files.
#[derive(Clone, Copy, Debug)]
pub struct Identity<'a> {
    /// PEM: our own certificate first, then those that lead to the authority.
    pub certificate: &'a Path,
    /// PEM: the key, not encrypted.
    pub key: &'a Path,
}

/// The server's side of TLS. Cheap to clone.
#[derive(Clone)]
pub struct Acceptor(TlsAcceptor);

impl std::fmt::Debug for Acceptor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Acceptor(…)")
    }
}

/// An established TLS connection.
pub struct Accepted {
    /// What is under the transport.
    pub stream: BoxedStream,
    /// The certificate that the peer has shown, if one was requested.
    pub certificate: Option<Shown>,
}

/// Why a TLS handshake failed. Includes the stream if the peer may still read.
#[derive(Debug, thiserror::Error)]
pub enum AcceptError {
    /// It speaks plain text; nothing of it has been read.
    #[error("the peer does not speak TLS, and this port does")]
    Plain(TcpStream),
    /// The handshake failed; the peer was sent an alert.
    #[error("{0}")]
    Handshake(io::Error, TcpStream),
    /// It is gone.
    #[error("hung up before TLS: {0}")]
    Gone(io::Error),
}

impl Acceptor {
    /// Shows `identity` to peers. With `client_ca` each of them has to show a certificate that an
    /// authority in that file has signed.
    ///
    /// # Errors
    /// Which file is invalid, and why.
    pub fn load(identity: Identity<'_>, client_ca: Option<&Path>) -> Result<Self, FileError> {
        let provider = provider();
        let own = pem::certified_key(identity, &provider)?;
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(VERSIONS)
            .map_err(|err| FileError::tls("--tls-cert", identity.certificate, &err))?;
        let mut config = match client_ca {
            None => builder
                .with_no_client_auth()
                .with_cert_resolver(resolver(own)),
            Some(file) => {
                let roots = Arc::new(pem::roots("--tls-client-ca", file)?);
                let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider)
                    .build()
                    .map_err(|err| FileError::new("--tls-client-ca", file, err.to_string()))?;
                builder
                    .with_client_cert_verifier(verifier)
                    .with_cert_resolver(resolver(own))
            }
        };
        if client_ca.is_some() {
            // A resumed session would accept a certificate after its expiry.
            config.session_storage = Arc::new(NoServerSessionStorage {});
            config.send_tls13_tickets = 0;
        }
        Ok(Self(TlsAcceptor::from(Arc::new(config))))
    }

    /// Does the handshake. The caller limits the time.
    ///
    /// # Errors
    /// Why there is no TLS.
    pub async fn accept(&self, stream: TcpStream) -> Result<Accepted, AcceptError> {
        let mut first = [0];
        match stream.peek(&mut first).await {
            Ok(0) => return Err(AcceptError::Gone(io::ErrorKind::UnexpectedEof.into())),
            Ok(_) if first != [HANDSHAKE] => return Err(AcceptError::Plain(stream)),
            Ok(_) => {}
            Err(err) => return Err(AcceptError::Gone(err)),
        }
        match self.0.accept(stream).into_fallible().await {
            Ok(stream) => {
                let shown = stream.get_ref().1.peer_certificates();
                let certificate = shown.and_then(|chain| chain.first()).map(Shown::of);
                Ok(Accepted {
                    stream: Box::new(stream),
                    certificate,
                })
            }
            Err((err, _)) if err.kind() == io::ErrorKind::UnexpectedEof => {
                Err(AcceptError::Gone(err))
            }
            Err((err, stream)) => Err(AcceptError::Handshake(err, stream)),
        }
    }
}

/// What a client sees of an established TLS connection.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Its version.
    pub version: &'static str,
    /// The subject of the server's certificate.
    pub subject: Option<String>,
    /// How many certificates it has shown.
    pub certificates: usize,
    /// Until when its own is valid, in seconds since 1970.
    pub not_after: Option<i64>,
}

/// The client's side of TLS, for one server.
pub struct Connector {
    tls: TlsConnector,
    name: ServerName<'static>,
}

impl std::fmt::Debug for Connector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Connector({:?})", self.name)
    }
}

impl Connector {
    /// Demands a certificate for `host` from an authority in the file `ca`, or from one that this
    /// machine trusts. Shows `identity` to servers that ask for it.
    ///
    /// # Errors
    /// Which file, or the host, is invalid, and why.
    pub fn load(
        host: &str,
        (flag, ca): (&'static str, Option<&Path>),
        identity: Option<Identity<'_>>,
    ) -> Result<Self, FileError> {
        let name = ServerName::try_from(host.to_owned()).map_err(|_| {
            let why = "no certificate can be for this host; use its name or its plain address";
            FileError::new("--host", Path::new(host), why.to_owned())
        })?;
        let provider = provider();
        let roots = match ca {
            Some(file) => pem::roots(flag, file)?,
            None => pem::system_roots()?,
        };
        let place = ca.unwrap_or(Path::new("of this machine"));
        let verifier =
            WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
                .build()
                .map_err(|err| FileError::new(flag, place, err.to_string()))?;
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(VERSIONS)
            .map_err(|err| FileError::tls(flag, place, &err))?
            .with_webpki_verifier(verifier);
        let config = match identity {
            Some(identity) => builder
                .with_client_cert_resolver(resolver(pem::certified_key(identity, &provider)?)),
            None => builder.with_no_client_auth(),
        };
        Ok(Self {
            tls: TlsConnector::from(Arc::new(config)),
            name,
        })
    }

    /// Does the handshake. The caller limits the time.
    ///
    /// # Errors
    /// The server or its certificate was refused; [`explain`] says why.
    pub async fn connect(&self, stream: TcpStream) -> io::Result<BoxedStream> {
        Ok(self.connect_and_look(stream).await?.0)
    }

    /// The same, and what there is to say of the connection.
    ///
    /// # Errors
    /// As above.
    pub async fn connect_and_look(&self, stream: TcpStream) -> io::Result<(BoxedStream, Seen)> {
        let stream = self.tls.connect(self.name.clone(), stream).await?;
        let session = stream.get_ref().1;
        let chain = session.peer_certificates().unwrap_or_default();
        let seen = Seen {
            version: match session.protocol_version() {
                Some(rustls::ProtocolVersion::TLSv1_2) => "TLS 1.2",
                _ => "TLS 1.3",
            },
            subject: chain.first().map(|own| Shown::of(own).subject),
            certificates: chain.len(),
            not_after: chain.first().and_then(|own| validity::not_after(own)),
        };
        Ok((Box::new(stream), seen))
    }
}

fn resolver(own: CertifiedKey) -> Arc<rustls::sign::SingleCertAndKey> {
    Arc::new(own.into())
}

/// The crypto library that also checks tokens; named here so that no process-wide default counts.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}
