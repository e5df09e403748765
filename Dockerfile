# One image for server and workers: `docker run IMAGE serve FILE ...`, `docker run IMAGE worker FILE ...`.
FROM python:3.12-slim AS build
WORKDIR /build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
COPY constraints/build.txt constraints/runtime.txt constraints/
# Dependencies before the source, so that an edit of the source leaves their layer alone.
RUN python -m venv /opt/taskmill \
 && /opt/taskmill/bin/pip install --require-hashes -r constraints/runtime.txt \
 && pip install --require-hashes -r constraints/build.txt
COPY pyproject.toml README.md LICENSE ./
COPY package package
COPY engine engine
COPY store store
COPY workers workers
COPY server server
COPY adapters adapters
COPY console console
COPY cli cli
COPY testing testing
RUN pip wheel --no-deps --no-index --no-build-isolation --wheel-dir wheel . \
 && /opt/taskmill/bin/pip install --no-deps --no-index wheel/*.whl

FROM python:3.12-slim
RUN useradd --system --create-home --uid 10001 taskmill
COPY --from=build /opt/taskmill /opt/taskmill
COPY examples /app/examples
ENV PATH=/opt/taskmill/bin:$PATH PYTHONUNBUFFERED=1 TASKMILL_HOME=/home/taskmill/.taskmill
WORKDIR /app
USER taskmill
EXPOSE 8000
ENTRYPOINT ["taskmill"]
CMD ["--help"]
