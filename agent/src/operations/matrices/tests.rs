//! Series and matrices without a server.
