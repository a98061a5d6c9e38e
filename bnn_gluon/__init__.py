"""How the recipes are computed on MXNet Gluon."""
