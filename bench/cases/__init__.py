"""One file a case: which contenders, which figures, and how one contender is measured once."""
