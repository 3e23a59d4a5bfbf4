//! TLS for the API: the certificate that we show, made by a certificate authority of our own unless one is given.
//!
//! The authority is made on the first start and kept (`tls/ca.pem`, its key beside it); clients are told to trust it. The
//! server's certificate is made anew on every start and is only in memory, so that it always fits the address we listen on.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use api::tls::{self, TlsFileError};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    date_time_ymd,
};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::private_file::{PUBLIC, SECRET, read_or_make};

/// To the beginning of a year. A start makes a fresh one.
const SERVER_YEARS: i32 = 2;
const AUTHORITY_YEARS: i32 = 20;

/// `[tls]` of the configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsConfig {
    /// PEM file: the certificate and those between it and its authority.
    pub certificate: Option<PathBuf>,
    /// PEM file: its private key.
    pub key: Option<PathBuf>,
    /// Further names that clients reach us by, for the certificate that we make.
    pub names: Vec<String>,
}

/// Why there is no TLS.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be used.
    #[error("{}: {source}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Not what it should be.
    #[error("{}: {problem}", path.display())]
    Pem {
        /// Which.
        path: PathBuf,
        /// Why.
        problem: String,
    },
    /// A file that the configuration names.
    #[error(transparent)]
    File(#[from] TlsFileError),
    /// No certificate can be made.
    #[error("no certificate can be made: {0}")]
    Make(#[from] rcgen::Error),
    /// Certificate and key don't fit, or the key is of an unknown kind.
    #[error("the certificate cannot be used: {0}")]
    Rustls(#[from] rustls::Error),
}

/// What the TLS listener needs.
#[derive(Clone, Debug)]
pub(crate) struct Tls {
    pub(crate) config: Arc<ServerConfig>,
    /// The authority that clients must trust, if it is ours.
    pub(crate) authority: Option<PathBuf>,
}

impl Tls {
    /// Loads what is given, or makes what is missing in `directory`.
    pub(crate) fn prepare(config: &TlsConfig, directory: &Path, listen: SocketAddr) -> Result<Tls, TlsError> {
        let (chain, key, authority) = match (&config.certificate, &config.key) {
            (Some(certificate), Some(key)) => (tls::read_chain(certificate)?, tls::read_key(key)?, None),
            _ => {
                let authority = Authority::load_or_make(directory)?;
                let (chain, key) = authority.server_certificate(listen, &config.names)?;
                (chain, key, Some(authority.path))
            }
        };
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut server = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(chain, key)?;
        server.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Tls {
            config: Arc::new(server),
            authority,
        })
    }
}

fn bad_pem(path: &Path, problem: &dyn std::fmt::Display) -> TlsError {
    TlsError::Pem {
        path: path.to_owned(),
        problem: problem.to_string(),
    }
}

/// Our own certificate authority.
struct Authority {
    certificate: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
    path: PathBuf,
}

impl Authority {
    fn load_or_make(directory: &Path) -> Result<Authority, TlsError> {
        let io = |path: &Path| {
            let path = path.to_owned();
            move |source| TlsError::Io { path, source }
        };
        std::fs::create_dir_all(directory).map_err(io(directory))?;
        let path = directory.join("ca.pem");
        let key_path = directory.join("ca-key.pem");
        let key = read_or_make(
            &key_path,
            SECRET,
            || Ok(KeyPair::generate()?.serialize_pem()),
            io(&key_path),
        )?;
        let key = KeyPair::from_pem(&key).map_err(|error| bad_pem(&key_path, &error))?;
        let params = authority_params();
        // The key comes first: a certificate without it would be worthless, a key without certificate gets one.
        read_or_make(&path, PUBLIC, || Ok(params.self_signed(&key)?.pem()), io(&path))?;
        let certificate = CertificateDer::from_pem_file(&path).map_err(|error| bad_pem(&path, &error))?;
        Ok(Authority {
            certificate,
            issuer: Issuer::new(params, key),
            path,
        })
    }

    fn server_certificate(
        &self,
        listen: SocketAddr,
        names: &[String],
    ) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), TlsError> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(server_names(listen, names))?;
        params.distinguished_name.push(DnType::CommonName, "Routewright");
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        valid_for(&mut params, SERVER_YEARS);
        let certificate = params.signed_by(&key, &self.issuer)?;
        let key =
            PrivateKeyDer::try_from(key.serialize_der()).map_err(|problem| rustls::Error::General(problem.into()))?;
        Ok((vec![certificate.der().clone(), self.certificate.clone()], key))
    }
}

/// The same every time: what it issues carries its name and key, and must fit the certificate that was kept.
fn authority_params() -> CertificateParams {
    let mut params = CertificateParams::default();
    params
        .distinguished_name
        .push(DnType::CommonName, "Routewright certificate authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    valid_for(&mut params, AUTHORITY_YEARS);
    params
}

/// Loopback, the address we listen on, this machine's name, and what the configuration adds.
fn server_names(listen: SocketAddr, more: &[String]) -> Vec<String> {
    let mut names: Vec<String> = ["localhost", "127.0.0.1", "::1"].map(str::to_owned).to_vec();
    if !listen.ip().is_unspecified() {
        names.push(listen.ip().to_string());
    }
    let host = nix::unistd::gethostname().ok().and_then(|host| host.into_string().ok());
    names.extend(host.filter(|host| is_dns_name(host)));
    names.extend(more.iter().cloned());
    let mut seen = std::collections::BTreeSet::new();
    names.retain(|name| seen.insert(name.clone()));
    names
}

/// Letters, digits, hyphens and dots; or an address.
pub(crate) fn is_server_name(name: &str) -> bool {
    name.parse::<IpAddr>().is_ok() || is_dns_name(name)
}

fn is_dns_name(name: &str) -> bool {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len()) && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    name.len() <= 253 && name.strip_prefix("*.").unwrap_or(name).split('.').all(is_label)
}

/// Valid from the beginning of last year, whatever the clocks of clients say.
fn valid_for(params: &mut CertificateParams, years: i32) {
    let now = jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC);
    let year = i32::from(now.year());
    params.not_before = date_time_ymd(year - 1, 1, 1);
    params.not_after = date_time_ymd(year + years, 1, 1);
}
