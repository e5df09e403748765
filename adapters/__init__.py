"""Servers of other frameworks as task servers, one sub-room each. Nothing else imports those frameworks."""
