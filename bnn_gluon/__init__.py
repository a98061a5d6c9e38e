"""The engine on MXNet Gluon: import `bnn_gluon.engine`."""
