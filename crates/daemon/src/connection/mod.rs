//! The TCP side of BGP: listen, dial, MD5, TTL, framing, bounded write buffers.
