"""Drawing tokens: noise by position, filters, and the settings of both."""
