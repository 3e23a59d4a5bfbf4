//! Connections over loopback with real sockets.
