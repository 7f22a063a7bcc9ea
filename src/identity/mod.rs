//! Keys, certificates, trust: who a node is and who is admitted.
