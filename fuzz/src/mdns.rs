//! Multicast DNS messages, as anybody on the link may send them.

/// One message to a responder in every state.
pub fn target(data: &[u8]) {
    firmware::addressing::mdns::fuzz(data);
}
