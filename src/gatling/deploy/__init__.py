"""Making a release live: plan, cut-over, proof, journal and recovery."""
