//! The HTTPS tier: accepts, ends TLS, finds the room, proxies or tunnels.
