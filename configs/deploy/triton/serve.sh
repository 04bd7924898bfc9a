#!/bin/sh
# Starts tritonserver as ScamTap wants it; what follows on the command line is added. Run by the image of Dockerfile.gpu.
#
#   TRITON_ADMIN_KEY  required: what guards everything but inference
#   MODELS            the model repository, read-only; default /models
#   TLS_DIR           with ca.pem, server.pem and server.key in it: encrypted, and clients need a certificate of that CA
set -eu

: "${TRITON_ADMIN_KEY:?set it to a long random word, e.g. of: openssl rand -hex 24}"
if [ -n "${TLS_DIR:-}" ]; then
  set -- --grpc-use-ssl=true --grpc-use-ssl-mutual=true --grpc-root-cert="$TLS_DIR/ca.pem" \
    --grpc-server-cert="$TLS_DIR/server.pem" --grpc-server-key="$TLS_DIR/server.key" "$@"
fi

# Control is off: left open, whoever reaches the server can load a model that is a program. Shared memory, traces, logs
# and statistics need the key. HTTP and metrics are for the health check in the container; the tap speaks gRPC.
exec tritonserver \
  --model-repository="${MODELS:-/models}" \
  --model-control-mode=none \
  --disable-auto-complete-config \
  --exit-on-error=true \
  --strict-readiness=true \
  --exit-timeout-secs=10 \
  --grpc-port=8001 \
  --grpc-restricted-protocol="shared-memory,model-repository,statistics,trace,logging:admin-key=$TRITON_ADMIN_KEY" \
  --http-address=127.0.0.1 \
  --http-port=8000 \
  --http-restricted-api="shared-memory,model-repository,statistics,trace,logging:admin-key=$TRITON_ADMIN_KEY" \
  --metrics-address=127.0.0.1 \
  --metrics-port=8002 \
  --log-info=false \
  --log-warning=true \
  --log-error=true \
  "$@"
