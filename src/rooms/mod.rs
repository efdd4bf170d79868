//! Rooms and their places.
