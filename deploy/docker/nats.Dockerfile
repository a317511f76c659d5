# The NATS server of our own go.mod, and nothing else: a drop-in for the
# official scratch image. The binary is built by `make images`, so that no
# registry is needed; the context is dist/linux-amd64.
FROM scratch
COPY nats-server /nats-server
# An empty directory of the right owner: a new volume takes its owner from it.
COPY --chown=65532:65532 data /data
USER 65532:65532
EXPOSE 4222 6222 8222
ENTRYPOINT ["/nats-server"]
CMD ["--config", "/etc/nats/nats.conf"]
