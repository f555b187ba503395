"""The paper's classifier of one-second clips: who speaks, or whether the speech is synthetic."""
