"""The resident model process: one a user and COME_HOME, that holds models and answers all visitors."""
