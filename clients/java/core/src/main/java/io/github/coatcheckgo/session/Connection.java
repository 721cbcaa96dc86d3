package io.github.coatcheckgo.session;

import io.lettuce.core.AbstractRedisClient;
import io.lettuce.core.ClientOptions;
import io.lettuce.core.RedisClient;
import io.lettuce.core.RedisCommandExecutionException;
import io.lettuce.core.RedisCommandTimeoutException;
import io.lettuce.core.RedisConnectionException;
import io.lettuce.core.RedisConnectionStateAdapter;
import io.lettuce.core.RedisURI;
import io.lettuce.core.SocketOptions;
import io.lettuce.core.TimeoutOptions;
import io.lettuce.core.api.StatefulConnection;
import io.lettuce.core.cluster.ClusterClientOptions;
import io.lettuce.core.cluster.ClusterTopologyRefreshOptions;
import io.lettuce.core.cluster.RedisClusterClient;
import io.lettuce.core.cluster.RedisClusterURIUtil;
import io.lettuce.core.cluster.SlotHash;
import io.lettuce.core.cluster.api.StatefulRedisClusterConnection;
import io.lettuce.core.cluster.models.partitions.RedisClusterNode;
import io.lettuce.core.codec.ByteArrayCodec;
import io.lettuce.core.protocol.AsyncCommand;
import io.lettuce.core.protocol.Command;
import io.lettuce.core.protocol.CommandArgs;
import io.lettuce.core.protocol.CommandType;
import io.lettuce.core.protocol.ProtocolKeyword;
import io.lettuce.core.protocol.ProtocolVersion;
import io.lettuce.core.resource.ClientResources;
import io.lettuce.core.resource.Delay;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionStage;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;

/**
 * One connection to Redis through Lettuce: to a server, to the primary that Sentinels name, or to a
 * Cluster. It never sends a command again by itself: Lettuce would, after a lost connection, and an
 * addition would count twice. So commands are rejected while there is no connection, and those
 * under way fail when it breaks.
 */
final class Connection implements AutoCloseable {
    private static final ByteArrayCodec CODEC = ByteArrayCodec.INSTANCE;
    /** How long a connection that left a command without a reply has to answer PING. */
    private static final long PROBE_MILLIS = 500;

    // The threads of Lettuce, which all connections of the process share.
    private static ClientResources resources;
    private static int users;

    private final AbstractRedisClient client;
    private final RedisURI uri;
    final boolean cluster;
    private final Duration timeout;
    private CompletableFuture<? extends StatefulConnection<byte[], byte[]>> connecting;
    private long retryConnectAt; // System.nanoTime
    private boolean probing;
    private volatile Runnable onDisconnect = () -> {};

    Connection(String url, Duration timeout) {
        this.timeout = timeout;
        cluster = url.startsWith("redis-cluster://") || url.startsWith("rediss-cluster://");
        List<RedisURI> nodes = cluster ? RedisClusterURIUtil.toRedisURIs(java.net.URI.create(url.replaceFirst("-cluster", "")))
            : List.of(RedisURI.create(url));
        nodes.forEach(node -> node.setTimeout(timeout));
        uri = nodes.get(0);
        ClientResources shared = acquire();
        SocketOptions socket = SocketOptions.builder().connectTimeout(timeout).keepAlive(true).build();
        TimeoutOptions timeouts = TimeoutOptions.enabled(timeout);
        if (cluster) {
            RedisClusterClient c = RedisClusterClient.create(shared, nodes);
            ClusterTopologyRefreshOptions refresh = ClusterTopologyRefreshOptions.builder()
                .enableAllAdaptiveRefreshTriggers().adaptiveRefreshTriggersTimeout(Duration.ofMillis(500))
                .enablePeriodicRefresh(Duration.ofSeconds(10)).build();
            c.setOptions(ClusterClientOptions.builder(neverTwice()).socketOptions(socket).timeoutOptions(timeouts)
                .topologyRefreshOptions(refresh).build());
            client = c;
        } else {
            RedisClient c = RedisClient.create(shared);
            c.setOptions(ClientOptions.builder().protocolVersion(ProtocolVersion.RESP2)
                .disconnectedBehavior(ClientOptions.DisconnectedBehavior.REJECT_COMMANDS).replayFilter(command -> true)
                .socketOptions(socket).timeoutOptions(timeouts).build());
            client = c;
        }
        client.addListener(new RedisConnectionStateAdapter() {
            @Override
            public void onRedisDisconnected(io.lettuce.core.RedisChannelHandler<?, ?> connection) {
                onDisconnect.run();
            }
        });
    }

    private static synchronized ClientResources acquire() {
        if (users++ == 0) {
            resources = ClientResources.builder().reconnectDelay(Delay.constant(Duration.ofMillis(100))).build();
        }
        return resources;
    }

    private static synchronized void release() {
        if (--users == 0) {
            resources.shutdown(0, 2, TimeUnit.SECONDS);
        }
    }

    private static ClientOptions neverTwice() {
        return ClientOptions.builder().protocolVersion(ProtocolVersion.RESP2)
            .disconnectedBehavior(ClientOptions.DisconnectedBehavior.REJECT_COMMANDS).replayFilter(command -> true).build();
    }

    /** Sets what runs when a connection was lost. */
    void onDisconnect(Runnable listener) {
        onDisconnect = listener;
    }

    /** Why a command has no reply. */
    static final class Failure extends Exception {
        private static final long serialVersionUID = 1;
        /** The command certainly did not run. */
        final boolean notRun;
        /** There was no connection. */
        final boolean away;
        /** The server's error, or "". */
        final String error;

        Failure(String message, boolean notRun, boolean away, String error, Throwable cause) {
            super(message, cause);
            this.notRun = notRun;
            this.away = away;
            this.error = error;
        }

        boolean is(String code) {
            return error.equals(code) || error.startsWith(code + " ");
        }
    }

    /** A command under way. */
    static final class Call {
        private final AsyncCommand<byte[], byte[], List<Object>> command;
        private Runnable onSilence = () -> {};

        Call(ProtocolKeyword type, CommandArgs<byte[], byte[]> args) {
            command = new AsyncCommand<>(new Command<>(type, new ReplyOutput(), args));
        }

        CompletionStage<List<Object>> stage() {
            return command;
        }

        /** Waits for the reply: null, a Long, a byte[], or a List of these. */
        Object reply(long deadline) throws Failure {
            try {
                List<Object> reply = command.get(Math.max(1, deadline - System.nanoTime()), TimeUnit.NANOSECONDS);
                return reply == null || reply.isEmpty() ? null : reply.get(0);
            } catch (TimeoutException e) {
                onSilence.run();
                throw new Failure("no reply in time", false, false, "", e);
            } catch (InterruptedException e) {
                Thread.currentThread().interrupt();
                throw new Failure("interrupted", false, false, "", e);
            } catch (ExecutionException e) {
                if (e.getCause() instanceof RedisCommandTimeoutException) {
                    onSilence.run();
                }
                throw failure(e.getCause());
            } catch (java.util.concurrent.CancellationException e) {
                throw failure(e);
            }
        }
    }

    private static final List<String> NOT_RUN = List.of("MOVED", "ASK", "TRYAGAIN", "LOADING", "READONLY", "MASTERDOWN",
        "CLUSTERDOWN", "NOREPLICAS", "NOSCRIPT");

    private static Failure failure(Throwable cause) {
        String message = String.valueOf(cause.getMessage());
        if (cause instanceof RedisCommandExecutionException) {
            String code = message.split(" ", 2)[0];
            return new Failure(message, NOT_RUN.contains(code), false, message, cause);
        }
        boolean rejected = message.startsWith("Currently not connected") || cause instanceof RedisConnectionException
            || cause instanceof io.lettuce.core.cluster.PartitionSelectorException;
        return new Failure(message, rejected, rejected, "", cause);
    }

    static CommandArgs<byte[], byte[]> args() {
        return new CommandArgs<>(CODEC);
    }

    static byte[] bytes(String text) {
        return text.getBytes(StandardCharsets.UTF_8);
    }

    /** Sends commands together. Each has a reply of its own. */
    void send(List<Call> calls, long deadline) throws Failure {
        StatefulConnection<byte[], byte[]> to = connection(deadline);
        calls.forEach(call -> call.onSilence = () -> probe(to, call));
        send(to, calls);
    }

    /** Sends commands together to the server that has the key of the first one. */
    void sendToOne(List<Call> calls, long deadline) throws Failure {
        send(await(nodeOf(connection(deadline), calls.get(0)), deadline), calls);
    }

    /**
     * Replaces a connection that does not answer PING either: its peer may be gone without a word,
     * and TCP would only notice after minutes.
     */
    private void probe(StatefulConnection<byte[], byte[]> suspect, Call unanswered) {
        synchronized (this) {
            if (probing || connecting == null || connecting.getNow(null) != suspect) {
                return;
            }
            probing = true;
        }
        CompletableFuture<List<Object>> pong;
        try {
            pong = nodeOf(suspect, unanswered).thenCompose(node -> {
                Call ping = new Call(CommandType.PING, args());
                node.dispatch(ping.command);
                return ping.stage();
            });
        } catch (RuntimeException e) {
            pong = CompletableFuture.failedFuture(e);
        }
        pong.orTimeout(PROBE_MILLIS, TimeUnit.MILLISECONDS).whenComplete((reply, error) -> {
            synchronized (this) {
                probing = false;
                if (!(error instanceof TimeoutException) || connecting == null || connecting.getNow(null) != suspect) {
                    return;
                }
                connecting = null;
            }
            suspect.closeAsync();
        });
    }

    /** Returns the connection to the server that has the call's key. */
    private static CompletableFuture<? extends StatefulConnection<byte[], byte[]>> nodeOf(StatefulConnection<byte[], byte[]> c, Call call) {
        java.nio.ByteBuffer key = call.command.getArgs().getFirstEncodedKey();
        if (key == null || !(c instanceof StatefulRedisClusterConnection<byte[], byte[]> all)) {
            return CompletableFuture.completedFuture(c);
        }
        RedisClusterNode node = all.getPartitions().getPartitionBySlot(SlotHash.getSlot(key));
        return node == null ? CompletableFuture.completedFuture(c) : all.getConnectionAsync(node.getNodeId());
    }

    private static void send(StatefulConnection<byte[], byte[]> to, List<Call> calls) throws Failure {
        List<AsyncCommand<byte[], byte[], List<Object>>> commands = new ArrayList<>(calls.size());
        for (Call call : calls) {
            commands.add(call.command);
        }
        try {
            to.dispatch(commands);
        } catch (RuntimeException e) {
            throw failure(e);
        }
    }

    /** A primary: sends commands to that one only. */
    interface Node {
        void send(List<Call> calls) throws Failure;
    }

    /** Returns all primaries. */
    List<Node> primaries(long deadline) throws Failure {
        StatefulConnection<byte[], byte[]> c = connection(deadline);
        List<Node> nodes = new ArrayList<>();
        if (c instanceof StatefulRedisClusterConnection<byte[], byte[]> all) {
            for (RedisClusterNode node : all.getPartitions()) {
                if (node.getRole().isUpstream() && !node.getSlots().isEmpty()) {
                    nodes.add(calls -> send(await(all.getConnectionAsync(node.getNodeId()), deadline), calls));
                }
            }
        } else {
            nodes.add(calls -> send(c, calls));
        }
        return nodes;
    }

    private StatefulConnection<byte[], byte[]> connection(long deadline) throws Failure {
        CompletableFuture<? extends StatefulConnection<byte[], byte[]>> future;
        synchronized (this) {
            if (connecting != null && connecting.isCompletedExceptionally()) {
                if (System.nanoTime() - retryConnectAt >= 0) {
                    connecting = null;
                }
            }
            if (connecting == null) {
                retryConnectAt = System.nanoTime() + TimeUnit.MILLISECONDS.toNanos(100);
                connecting = connect();
            }
            future = connecting;
        }
        return await(future, deadline);
    }

    private CompletableFuture<? extends StatefulConnection<byte[], byte[]>> connect() {
        try {
            return client instanceof RedisClusterClient c // it does not ask for the nodes by itself
                ? c.refreshPartitionsAsync().toCompletableFuture().thenCompose(done -> c.connectAsync(CODEC))
                : ((RedisClient) client).connectAsync(CODEC, uri).toCompletableFuture();
        } catch (RuntimeException e) {
            return CompletableFuture.failedFuture(e);
        }
    }

    private static <T> T await(CompletableFuture<? extends T> future, long deadline) throws Failure {
        try {
            return future.get(Math.max(1, deadline - System.nanoTime()), TimeUnit.NANOSECONDS);
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
            throw new Failure("interrupted", true, true, "", e);
        } catch (ExecutionException | TimeoutException | java.util.concurrent.CancellationException e) {
            throw new Failure("cannot connect to Redis: " + e, true, true, "", e);
        }
    }

    long deadline() {
        return System.nanoTime() + timeout.toNanos();
    }

    @Override
    public void close() {
        client.shutdown(Duration.ZERO, timeout);
        release();
    }
}
