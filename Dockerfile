# Satchel as an image: built from the lock file, run as a user without rights, all state in /data.
#   docker build -t satchel .
#   docker run -p 4010:4010 -p 4011:4011 -v satchel:/data satchel
FROM node:24-slim AS build
WORKDIR /build
COPY package.json package-lock.json ./
# The image brings Node and the build needs no other program, so nothing that a package would run at its installation.
RUN npm ci --ignore-scripts --no-audit --no-fund
COPY tsconfig.json tsconfig.build.json ./
COPY bin bin
COPY src src
RUN npm run build && npm prune --omit=dev --ignore-scripts --no-audit --no-fund

FROM node:24-slim
ENV NODE_ENV=production \
    SATCHEL_HOST=0.0.0.0 \
    SATCHEL_DATA_DIR=/data
RUN install --directory --owner=node --group=node --mode=0700 /data \
    && printf '#!/bin/sh\nexec node /app/bin/satchel.js "$@"\n' > /usr/local/bin/satchel \
    && chmod 0755 /usr/local/bin/satchel
WORKDIR /app
COPY --from=build /build/package.json ./
COPY --from=build /build/node_modules node_modules
COPY --from=build /build/bin bin
COPY --from=build /build/dist dist
USER node
VOLUME /data
EXPOSE 4010 4011
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s --retries=3 \
    CMD ["node", "-e", "fetch(`http://127.0.0.1:${process.env.SATCHEL_PORT || 4010}/healthz`).then((answer) => process.exit(answer.ok ? 0 : 1), () => process.exit(1))"]
ENTRYPOINT ["satchel"]
CMD ["serve"]
