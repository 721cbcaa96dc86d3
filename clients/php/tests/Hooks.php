<?php

declare(strict_types=1);

namespace Coatcheck\Session\Tests;

use Coatcheck\Session\Scripts;

/**
 * Calls functions before and after each step of a connection. They get the name of a script, or
 * "read". What they throw happens in place of the step, or of its reply.
 */
final class Hooks
{
    /** @var (\Closure(string): void)|null */
    public ?\Closure $before = null;
    /** @var (\Closure(string): void)|null */
    public ?\Closure $after = null;
    /** @var list<string> the steps that were made */
    public array $steps = [];

    /** Throws in the given step, as a connection does that is lost. */
    public static function fail(string $step): \Closure
    {
        return fn (string $now) => $now === $step ? throw new \RedisException('the connection is lost') : null;
    }

    /** Calls a function in the given step, the first time only. */
    public static function once(string $step, \Closure $call): \Closure
    {
        return function (string $now) use ($step, &$call): void {
            if ($now === $step && $call !== null) {
                $then = $call;
                $call = null;
                $then();
            }
        };
    }

    public function clear(): void
    {
        $this->before = $this->after = null;
        $this->steps = [];
    }

    /**
     * @template T
     * @param \Closure(): T $make
     * @return T
     */
    public function around(string $step, \Closure $make): mixed
    {
        $this->before === null || ($this->before)($step);
        $this->steps[] = $step;
        $reply = $make();
        $this->after === null || ($this->after)($step);
        return $reply;
    }

    public function connect(RedisServer $server): \Redis
    {
        $redis = new class () extends \Redis {
            public Hooks $hooks;

            // The types differ between the versions of phpredis.
            public function rawCommand($command, ...$words): mixed
            {
                $make = fn (): mixed => parent::rawCommand($command, ...$words);
                $script = in_array($command, ['EVAL', 'EVALSHA'], true)
                    ? array_search($command === 'EVAL' ? sha1($words[0]) : $words[0], Scripts::SHA1, true) : false;
                return $script === false ? $make() : $this->hooks->around($script, $make);
            }

            public function exec(): mixed
            {
                return $this->hooks->around('read', fn (): mixed => parent::exec());
            }
        };
        $redis->hooks = $this;
        $redis->connect('127.0.0.1', $server->port(), RedisServer::PATIENCE, null, 0, RedisServer::PATIENCE);
        return $redis;
    }
}
