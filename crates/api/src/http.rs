//! HTTP clients: every one in these processes is made here, so that all agree on what TLS is done with.

use std::sync::Once;

use reqwest::{Certificate, Client, ClientBuilder};

/// Whose certificates a client believes.
#[derive(Clone, Copy, Debug)]
pub enum Trust<'a> {
    /// Nobody's: it speaks plain HTTP on this machine. (Looking for the system's authorities would fail where there are none.)
    Nobody,
    /// Those of the system's authorities.
    System,
    /// Those of the authorities in this PEM text, and no others.
    Only(&'a [u8]),
}

/// A client to be refined.
pub fn client(trust: Trust<'_>) -> Result<ClientBuilder, reqwest::Error> {
    static RING: Once = Once::new();
    RING.call_once(|| {
        // Somebody else's choice would do as well.
        let _ = rustls::crypto::ring::default_provider().install_default();
    });
    Ok(match trust {
        Trust::Nobody => Client::builder().tls_certs_only([]),
        Trust::System => Client::builder(),
        Trust::Only(pem) => Client::builder().tls_certs_only(Certificate::from_pem_bundle(pem)?),
    })
}

/// A client for plain HTTP on this machine.
pub fn plain_client() -> ClientBuilder {
    client(Trust::Nobody).expect("no certificate is read")
}
