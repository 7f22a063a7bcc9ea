//! What the grantor does, event by event.
