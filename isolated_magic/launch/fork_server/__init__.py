"""Fork servers: processes that have imported what runs will import, and fork a run in a millisecond."""
