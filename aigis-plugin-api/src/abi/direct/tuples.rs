//! How tuples cross: as balanced trees of pairs, like the fields of a struct.

use super::{Both, Crossing, Direct};

/// A tuple of what crosses as the parts of `C`.
struct AsTuple<C>(C);

/// The type of a tree: `[a [b c]]` is a pair of what `a` stands for and of a pair.
macro_rules! tree_type {
    ([$left:tt $right:tt] $($of:tt)+) => {
        Both<tree_type!($left $($of)+), tree_type!($right $($of)+)>
    };
    (($c:ident $v:ident) Abi) => { $c::Abi };
    (($c:ident $v:ident) Lent $life:lifetime) => { $c::Lent<$life> };
}

/// A tree of what `$each` of the crossings makes of the values.
macro_rules! tree_value {
    ([$left:tt $right:tt] $each:ident) => {
        Both { first: tree_value!($left $each), second: tree_value!($right $each) }
    };
    (($c:ident $v:ident) $each:ident) => { $c::$each($v) };
}

/// The pattern that takes a tree apart.
macro_rules! tree_pattern {
    ([$left:tt $right:tt]) => {
        Both {
            first: tree_pattern!($left),
            second: tree_pattern!($right),
        }
    };
    (($c:ident $v:ident)) => {
        $v
    };
}

macro_rules! tuples {
    ($(($($ty:ident $c:ident $v:ident),+) $tree:tt)*) => {$(
        impl<$($ty: 'static, $c: Crossing<$ty>),+> Crossing<($($ty,)+)> for AsTuple<($($c,)+)> {
            type Abi = tree_type!($tree Abi);
            type Lent<'a> = tree_type!($tree Lent 'a);

            #[inline]
            fn into_abi(($($v,)+): ($($ty,)+)) -> Self::Abi {
                tree_value!($tree into_abi)
            }

            #[inline]
            fn from_abi(abi: Self::Abi) -> ($($ty,)+) {
                let tree_pattern!($tree) = abi;
                ($($c::from_abi($v),)+)
            }

            #[inline]
            fn lend(value: &($($ty,)+)) -> Self::Lent<'_> {
                let ($($v,)+) = value;
                tree_value!($tree lend)
            }

            #[inline]
            fn take(lent: Self::Lent<'_>) -> ($($ty,)+) {
                let tree_pattern!($tree) = lent;
                ($($c::take($v),)+)
            }
        }

        impl<Depth: 'static, $($ty: Direct<Depth>),+> Direct<Depth> for ($($ty,)+) {
            #[inline]
            fn crossing() -> impl Crossing<Self> {
                AsTuple(($($ty::crossing(),)+))
            }
        }
    )*};
}

tuples! {
    (A CA a) (CA a)
    (A CA a, B CB b) [(CA a) (CB b)]
    (A CA a, B CB b, C CC c) [(CA a) [(CB b) (CC c)]]
    (A CA a, B CB b, C CC c, D CD d) [[(CA a) (CB b)] [(CC c) (CD d)]]
    (A CA a, B CB b, C CC c, D CD d, E CE e) [[(CA a) (CB b)] [(CC c) [(CD d) (CE e)]]]
    (A CA a, B CB b, C CC c, D CD d, E CE e, F CF f)
        [[(CA a) [(CB b) (CC c)]] [(CD d) [(CE e) (CF f)]]]
    (A CA a, B CB b, C CC c, D CD d, E CE e, F CF f, G CG g)
        [[(CA a) [(CB b) (CC c)]] [[(CD d) (CE e)] [(CF f) (CG g)]]]
    (A CA a, B CB b, C CC c, D CD d, E CE e, F CF f, G CG g, H CH h)
        [[[(CA a) (CB b)] [(CC c) (CD d)]] [[(CE e) (CF f)] [(CG g) (CH h)]]]
}
