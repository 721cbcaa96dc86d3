<?php

declare(strict_types=1);

namespace Coatcheck\Session;

/** What is known about a session. Times are seconds since 1970, by the server's clock. */
final class Info
{
    /** @param list<string> $methods */
    private function __construct(
        public readonly string $handle,
        public readonly string $user,
        public readonly array $methods,
        public readonly int $level,
        public readonly string $device,
        public readonly string $userAgent,
        public readonly string $address,
        public readonly float $created,
        public readonly float $seen,
        public readonly float $expires,
        public readonly float $deadline,
        public readonly float $authenticated,
    ) {
    }

    /** @internal */
    public static function of(string $handle, ?Record $r, ?Principal $p): self
    {
        $r ??= new Record();
        return new self(
            $handle, $p->user ?? '', $p->methods ?? [], $r->level, $p->device ?? '', $p->agent ?? '', $p->address ?? '',
            $r->created / 1000, \max($r->seen, $r->created) / 1000, $r->expires() / 1000, $r->deadline / 1000, $r->authenticated / 1000,
        );
    }
}
