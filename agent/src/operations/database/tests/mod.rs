//! Tables for what is decided, and small stories.
