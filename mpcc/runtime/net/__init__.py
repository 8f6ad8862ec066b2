"""The network: byte pipes, framed channels, handshakes."""
