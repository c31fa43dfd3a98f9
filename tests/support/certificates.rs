//! Certificates generated on the fly.

use super::common::Setup;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair,
};
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use tempfile::TempDir;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{ClientConfig, RootCertStore, ServerConfig};

/// Certificates in a folder: NAME.pem and NAME.key.
pub struct Files(TempDir);

impl Files {
    /// `ca`, `server` for localhost, and `client` for alice; `other` is also an authority.
    pub fn new() -> Self {
        let files = Self(tempfile::tempdir().unwrap());
        let ca = files.authority("ca");
        files.signed("server", &here(), &ca);
        files.signed("client", &named("alice", &[]), &ca);
        let other = files.authority("other");
        files.signed("stranger", &named("mallory", &[]), &other);
        files
    }

    pub fn path(&self, name: &str) -> String {
        self.0.path().join(name).display().to_string()
    }

    pub fn authority(&self, name: &str) -> Issuer<'static, KeyPair> {
        let mut params = named(name, &[]);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        self.write(name, &certificate.pem(), &key);
        Issuer::new(params, key)
    }

    pub fn signed(&self, name: &str, params: &CertificateParams, by: &Issuer<'static, KeyPair>) {
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, by).unwrap();
        self.write(name, &certificate.pem(), &key);
    }

    pub fn self_signed(&self, name: &str, params: &CertificateParams) {
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        self.write(name, &certificate.pem(), &key);
    }

    pub fn write(&self, name: &str, certificate: &str, key: &KeyPair) {
        std::fs::write(self.path(&format!("{name}.pem")), certificate).unwrap();
        let file = self.path(&format!("{name}.key"));
        std::fs::write(&file, key.serialize_pem()).unwrap();
        std::fs::set_permissions(file, PermissionsExt::from_mode(0o600)).unwrap();
    }

    /// Flags that name a certificate and its key.
    pub fn identity(&self, name: &str) -> Vec<String> {
        let [certificate, key] = ["pem", "key"].map(|end| self.path(&format!("{name}.{end}")));
        vec!["--tls-cert".into(), certificate, "--tls-key".into(), key]
    }

    pub fn server(&self, transport: &'static str) -> Setup {
        self.server_as(transport, "server")
    }

    pub fn server_as(&self, transport: &'static str, name: &str) -> Setup {
        let identity = self.identity(name);
        let identity: Vec<&str> = identity.iter().map(String::as_str).collect();
        Setup::new(transport).args(&identity)
    }

    /// For a TLS server with the certificate `server`.
    pub fn config(&self, wants_certificate: bool) -> ServerConfig {
        let certificates = |name: &str| -> Vec<CertificateDer<'static>> {
            let read = CertificateDer::pem_file_iter(self.path(name)).unwrap();
            read.map(Result::unwrap).collect()
        };
        let key = PrivateKeyDer::from_pem_file(self.path("server.key")).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(certificates("ca.pem").remove(0)).unwrap();
        let builder = ServerConfig::builder();
        let builder = if wants_certificate {
            let verifier = WebPkiClientVerifier::builder(Arc::new(roots))
                .build()
                .unwrap();
            builder.with_client_cert_verifier(verifier)
        } else {
            builder.with_no_client_auth()
        };
        builder
            .with_single_cert(certificates("server.pem"), key)
            .unwrap()
    }

    /// For a client that trusts the authority `ca`.
    pub fn connector(&self) -> TlsConnector {
        let mut roots = RootCertStore::empty();
        let ca = CertificateDer::from_pem_file(self.path("ca.pem")).unwrap();
        roots.add(ca).unwrap();
        let config = ClientConfig::builder()
            .with_root_certificates(roots)
            .with_no_client_auth();
        TlsConnector::from(Arc::new(config))
    }

    /// Makes a client use TLS and trust the authority `ca`.
    pub fn trusting(&self, ca: &str) -> Vec<String> {
        let ca = self.path(&format!("{ca}.pem"));
        vec!["--tls".into(), "--tls-ca".into(), ca]
    }
}

pub fn named(name: &str, hosts: &[&str]) -> CertificateParams {
    let hosts: Vec<String> = hosts.iter().map(ToString::to_string).collect();
    let mut params = CertificateParams::new(hosts).unwrap();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params
        .distinguished_name
        .push(DnType::OrganizationName, "Tests, Inc.");
    params
}

/// For all names that the tests use for this machine.
pub fn here() -> CertificateParams {
    named("the server", &["localhost", "127.0.0.1"])
}
