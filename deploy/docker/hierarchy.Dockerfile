# All programs of Hierarchy in one image; the service chooses by its entrypoint.
# The static binaries are built by `make images`, so that no registry is needed;
# the context is dist/linux-amd64.
FROM scratch
COPY hierarchy submitter resolver executor observer /
USER 65532:65532
EXPOSE 8080
ENTRYPOINT ["/hierarchy"]
