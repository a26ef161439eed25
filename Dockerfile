FROM node:24-slim
ENV NODE_ENV=production
WORKDIR /app

# Sources run as they are: Node 24 strips the types.
COPY package.json package-lock.json ./
COPY packages packages
COPY apps apps
COPY migrations migrations
# Workspaces of the lock file; nothing of them is installed.
COPY examples examples
COPY bench bench
RUN npm ci --omit=dev --workspace apps/server --no-audit --no-fund && npm cache clean --force \
 && mkdir /data && chown node:node /data

USER node
ENV TOKENTALLY_HOST=0.0.0.0 TOKENTALLY_DATA_DIR=/data
VOLUME /data
EXPOSE 4000
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s --retries=3 \
  CMD ["node", "-e", "fetch('http://127.0.0.1:' + (process.env.TOKENTALLY_PORT || 4000) + '/readyz').then((answer) => process.exit(answer.ok ? 0 : 1), () => process.exit(1))"]
CMD ["node", "--conditions=source", "apps/server/src/main.ts"]
