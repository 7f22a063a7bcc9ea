//! Configuration: the file as typed (`raw`) and the configuration as proven (`checked`).
