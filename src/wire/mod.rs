//! Conversion between the generated protocol types and `types`; refuses what is malformed.
