# The commands of the lab in a container:
#   make docker && make docker-train EXP=cgan
# torch's wheels carry CUDA, so a slim Python is base enough; of the host only the NVIDIA driver is needed. There is no
# compiler in it, which run.compile=true would need.
ARG BASE=python:3.11-slim
FROM ${BASE}

LABEL org.opencontainers.image.title="GAN lab" \
      org.opencontainers.image.description="Train, compare and understand generative adversarial networks" \
      org.opencontainers.image.documentation="README.md, docs/cluster.md"

# The lock files alone first: a change of the code does not install torch again. Whoever runs the image can read it all,
# but cannot add packages, so it has the extras.
COPY requirements.lock requirements-extras.lock /opt/gan-lab/
RUN --mount=type=cache,target=/root/.cache/pip \
    python3 -m venv /opt/gan-lab \
 && /opt/gan-lab/bin/python -m pip install --disable-pip-version-check \
      --requirement /opt/gan-lab/requirements.lock --requirement /opt/gan-lab/requirements-extras.lock

RUN --mount=type=bind,source=.,target=/source \
    /opt/gan-lab/bin/python -m pip install --disable-pip-version-check --no-cache-dir --no-deps --no-build-isolation /source \
 && mkdir --mode=1777 /runs /data /cache

# Whatever writes, writes below these three, also for a user whom /etc/passwd does not know and on a read-only root.
# In / the defaults run.root=runs and data.root=data are /runs and /data.
VOLUME ["/runs", "/data", "/cache"]
WORKDIR /
ENV PATH=/opt/gan-lab/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 \
    USER=lab \
    HOME=/cache \
    XDG_CACHE_HOME=/cache \
    GAN_LAB_CACHE=/cache/decoded \
    TORCH_HOME=/cache/torch \
    TORCHINDUCTOR_CACHE_DIR=/cache/inductor \
    TRITON_CACHE_DIR=/cache/triton \
    MPLCONFIGDIR=/cache/matplotlib
USER 1000:1000

# exec form: python itself is process 1 and gets the SIGTERM of `docker stop`, on which it writes a checkpoint
ENTRYPOINT ["gan-lab"]
