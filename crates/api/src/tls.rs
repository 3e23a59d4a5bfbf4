//! TLS between our own processes, and with etcd: certificates and keys are read here, and all agree on ring and HTTP/2.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::codegen::http::Uri;

/// HTTP/2 in the handshake (RFC 7301, RFC 9113 §3.2).
const HTTP2: &[u8] = b"h2";

/// A certificate and its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// PEM file: the certificate and those between it and its authority.
    pub certificate: PathBuf,
    /// PEM file: its private key.
    pub key: PathBuf,
}

/// A file that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {problem}", path.display())]
pub struct TlsFileError {
    /// Which.
    pub path: PathBuf,
    /// Why.
    pub problem: String,
}

impl TlsFileError {
    fn new(path: &Path, problem: impl ToString) -> TlsFileError {
        TlsFileError {
            path: path.to_owned(),
            problem: problem.to_string(),
        }
    }
}

/// The certificates of a PEM file, at least one.
pub fn read_chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsFileError> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_file_iter(path)
        .map_err(|error| TlsFileError::new(path, error))?
        .collect();
    match chain {
        Ok(chain) if chain.is_empty() => Err(TlsFileError::new(path, "it holds no certificate")),
        Ok(chain) => Ok(chain),
        Err(error) => Err(TlsFileError::new(path, error)),
    }
}

/// The private key of a PEM file.
pub fn read_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsFileError> {
    PrivateKeyDer::from_pem_file(path).map_err(|error| TlsFileError::new(path, error))
}

fn read_authorities(path: &Path) -> Result<RootCertStore, TlsFileError> {
    let mut roots = RootCertStore::empty();
    for certificate in read_chain(path)? {
        roots.add(certificate).map_err(|error| TlsFileError::new(path, error))?;
    }
    Ok(roots)
}

/// For a client that trusts the authorities in `ca` and no others, and shows `identity` where it is asked for one. It names no protocol
/// inside TLS: see [`http2`].
pub fn client_config(ca: &Path, identity: Option<&Identity>) -> Result<ClientConfig, TlsFileError> {
    let roots = read_authorities(ca)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| TlsFileError::new(ca, error))?
        .with_root_certificates(roots);
    let Some(Identity { certificate, key }) = identity else {
        return Ok(builder.with_no_client_auth());
    };
    builder
        .with_client_auth_cert(read_chain(certificate)?, read_key(key)?)
        .map_err(|error| TlsFileError::new(certificate, error))
}

/// The same, for HTTP/2.
pub fn http2(mut config: ClientConfig) -> Arc<ClientConfig> {
    config.alpn_protocols = vec![HTTP2.to_vec()];
    Arc::new(config)
}

/// For a server of HTTP/2 that shows `identity` and, with `client_ca`, lets in only whom those authorities vouch for.
pub fn server_config(identity: &Identity, client_ca: Option<&Path>) -> Result<Arc<ServerConfig>, TlsFileError> {
    let Identity { certificate, key } = identity;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| TlsFileError::new(certificate, error))?;
    let builder = match client_ca {
        None => builder.with_no_client_auth(),
        Some(ca) => {
            let roots = Arc::new(read_authorities(ca)?);
            let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider).build();
            builder.with_client_cert_verifier(verifier.map_err(|error| TlsFileError::new(ca, error))?)
        }
    };
    let mut config = builder
        .with_single_cert(read_chain(certificate)?, read_key(key)?)
        .map_err(|error| TlsFileError::new(certificate, error))?;
    // Who asks for HTTP/1.1 may come in, too: an agent that is told of one address only asks so whether it is the manager's.
    config.alpn_protocols = vec![HTTP2.to_vec(), b"http/1.1".to_vec()];
    // Agents stay connected for weeks; a ticket of each would only cost memory.
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

/// Connects to the host and port of an `https` URL, for tonic's endpoints.
pub async fn connect(
    uri: Uri,
    otherwise_port: u16,
    tls: Arc<ClientConfig>,
) -> io::Result<TokioIo<TlsStream<TcpStream>>> {
    let host = uri.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
    let stream = TcpStream::connect((host.as_str(), uri.port_u16().unwrap_or(otherwise_port))).await?;
    stream.set_nodelay(true)?;
    let name = ServerName::try_from(host).map_err(io::Error::other)?;
    Ok(TokioIo::new(TlsConnector::from(tls).connect(name, stream).await?))
}

/// What is wrong at the bottom of it: the innermost cause says most.
pub fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    let mut error = error;
    while let Some(cause) = error.source() {
        error = cause;
    }
    error.to_string()
}
