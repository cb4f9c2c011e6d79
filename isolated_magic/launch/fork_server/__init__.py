"""Fork servers have imported what runs will import, and fork a run in a millisecond."""
