"""Where bytes lie: a local path, or an object store named by the scheme of a URI."""
