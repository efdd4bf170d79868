//! Nodes and pools: what they are, whether they can serve, which one a new room gets.
