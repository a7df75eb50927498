"""The steps that every system goes through: frozen networks, features, fitting, scoring."""
