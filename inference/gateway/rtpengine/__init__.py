"""rtpengine (with Kamailio or OpenSIPS): its calls forked to us over the ng protocol, a tone back to one ear."""
